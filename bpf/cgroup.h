/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Verdicts on the connections that processes open, told to them as they do: pods in the host's network and chosen processes of the host, which have
 * no interface of their own.
 *
 * from_process and to_process see every packet of the cgroup's sockets. The connect and sendmsg programs judge the same
 * flow earlier, so that what policy denies fails at once with EPERM and not by a time-out; they track nothing. Where requests are
 * decided, connect is also what sends a connection elsewhere, see connect.h.
 */
#ifndef SLUICE_CGROUP_H
#define SLUICE_CGROUP_H

#include "connect.h"
#include "find.h"

/* Describes the flow that a process is about to open; its own port is not known yet. */
static __always_inline void socket_describe(struct journey *journey, const struct bpf_sock_addr *socket,
					    const struct endpoint *endpoint, const __u8 *peer)
{
	struct packet *packet = &journey->packet;

	__builtin_memcpy(packet->source, address_is_ipv4(peer) ? endpoint->ipv4 : endpoint->ipv6, 16);
	__builtin_memcpy(packet->destination, peer, 16);
	packet->destination_port = socket->user_port;
	packet->protocol = socket->protocol;
	ask_fill(journey, endpoint, DIRECTION_EGRESS, name_find(journey->endpoint, peer));
}

/*
 * Judges a flow that a process is about to open. What a plugin must decide about packets is left to their program. Where requests
 * are decided, origin says where a connection goes; its endpoint is 0 where they are not.
 */
static __always_inline int socket_judge(struct bpf_sock_addr *socket, struct journey *journey, const __u8 *peer,
					struct origin *origin)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &journey->endpoint);
	const struct rule *rule = &journey->judgement.rule;
	struct flow flow;

	if (!endpoint) {
		__builtin_memcpy(journey->packet.destination, peer, 16);
		journey->packet.destination_port = socket->user_port;
		journey->packet.protocol = socket->protocol;
		journey->parsed = PARSED_FLOW;
		packet_record_write(journey, DIRECTION_EGRESS, REASON_DROP_NO_ENDPOINT);
		count_bytes(REASON_DROP_NO_ENDPOINT, 0);
		return CGROUP_DENY;
	}
	flow_to(&flow, journey->endpoint, peer, socket->user_port, socket->protocol);
	endpoint_judge(endpoint, &flow, &journey->judgement);
	if (rule->action == ACTION_ALLOW ||
	    (rule->action == ACTION_ASK && (rule->context != CONTEXT_HTTP || !origin || socket->protocol != IPPROTO_TCP)))
		return CGROUP_ALLOW;
	socket_describe(journey, socket, endpoint, peer);
	if (rule->action == ACTION_ASK && origin)
		return connect_requests(socket, journey, origin);
	/* The name that is asked for decides whether a resolver may be: the packets' program reads it. */
	if ((endpoint->flags & ENDPOINT_NAMES) && socket->user_port == DNS_PORT && bpf_map_lookup_elem(&resolvers, peer))
		return CGROUP_ALLOW;
	count_bytes(REASON_DROP_POLICY, 0);
	flow_record_write(&journey->ask, VERDICT_DENY, REASON_DROP_POLICY);
	return CGROUP_DENY;
}

static __always_inline int cgroup_socket(struct bpf_sock_addr *socket, const __u8 *peer, struct origin *origin)
{
	const __u32 *words = (const __u32 *)peer;
	__u32 id = cgroup_endpoint(), number;
	struct journey *journey;
	int outcome;

	/* No address means this host, in either family. */
	if (!id || address_is_loopback(peer) || (!words[0] && !words[1] && !words[3]))
		return CGROUP_ALLOW;
	journey = journey_take(id, &number);
	if (!journey) {
		unread_record_write(id, DIRECTION_EGRESS, REASON_FAIL_BUSY);
		count_bytes(REASON_FAIL_BUSY, 0);
		return CGROUP_DENY;
	}
	outcome = socket_judge(socket, journey, peer, origin);
	journey_give(journey);
	return outcome;
}

static __always_inline void peer_read(__u32 peer[4], const struct bpf_sock_addr *socket, int ipv4)
{
	if (ipv4) {
		address_map_ipv4((__u8 *)peer, socket->user_ip4);
		return;
	}
	peer[0] = socket->user_ip6[0];
	peer[1] = socket->user_ip6[1];
	peer[2] = socket->user_ip6[2];
	peer[3] = socket->user_ip6[3];
}

static __always_inline int cgroup_sendmsg(struct bpf_sock_addr *socket, int ipv4)
{
	__u32 peer[4];

	peer_read(peer, socket, ipv4);
	return cgroup_socket(socket, (const __u8 *)peer, NULL);
}

static __always_inline int cgroup_connect(struct bpf_sock_addr *socket, int ipv4)
{
	struct origin origin = {};
	__u32 peer[4], *words = (__u32 *)origin.sent.address;
	int outcome;

	/* The note of an earlier connect() with this socket is over. */
	bpf_sk_storage_delete(&origins, socket->sk);
	peer_read(peer, socket, ipv4);
	outcome = cgroup_socket(socket, (const __u8 *)peer, &origin);
	if (outcome == CGROUP_DENY || !origin.endpoint)
		return outcome;
	if (ipv4) {
		socket->user_ip4 = words[3];
	} else {
		socket->user_ip6[0] = words[0];
		socket->user_ip6[1] = words[1];
		socket->user_ip6[2] = words[2];
		socket->user_ip6[3] = words[3];
	}
	socket->user_port = origin.sent.port;
	return outcome;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *socket)
{
	return cgroup_connect(socket, 1);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *socket)
{
	return cgroup_connect(socket, 0);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *socket)
{
	return cgroup_sendmsg(socket, 1);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *socket)
{
	return cgroup_sendmsg(socket, 0);
}

#endif
