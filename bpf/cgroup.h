/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The programs of processes: pods in the host's network and chosen processes of the host, which have no interface of their own.
 *
 * from_process and to_process see every packet of the cgroup's sockets. The connect and sendmsg programs judge the same
 * flow earlier, so that what policy denies fails at once with EPERM and not by a time-out; they track nothing. Where requests are
 * decided, connect is also what sends a connection elsewhere, see connect.h.
 */
#ifndef SLUICE_CGROUP_H
#define SLUICE_CGROUP_H

#include "connect.h"

/* The endpoint that the cgroup of the running program is, or 0. */
static __always_inline __u32 cgroup_endpoint(void)
{
	__u64 *id = bpf_get_local_storage(&cgroup_ids, 0);

	return *id;
}

static __always_inline int cgroup_packet(struct __sk_buff *skb, enum direction direction)
{
	__u32 id = cgroup_endpoint();

	if (!id)
		return CGROUP_ALLOW;
	return endpoint_packet(skb, id, direction, PLACE_CGROUP) == OUTCOME_DROP ? CGROUP_DENY : CGROUP_ALLOW;
}

SEC("cgroup_skb/egress")
int from_process(struct __sk_buff *skb)
{
	return cgroup_packet(skb, DIRECTION_EGRESS);
}

SEC("cgroup_skb/ingress")
int to_process(struct __sk_buff *skb)
{
	return cgroup_packet(skb, DIRECTION_INGRESS);
}

/* What policy is asked about a flow that a process is about to open; its own port is not known yet. */
static __always_inline void connect_ask_fill(struct ask *ask, const struct bpf_sock_addr *socket, const struct endpoint *endpoint,
					     const struct judgement *judgement, const __u8 *peer, __u32 id)
{
	__builtin_memset(ask, 0, sizeof(*ask));
	ask->time_ns = bpf_ktime_get_ns();
	ask->name = name_find(id, peer);
	__builtin_memcpy(ask->source, address_is_ipv4(peer) ? endpoint->ipv4 : endpoint->ipv6, 16);
	__builtin_memcpy(ask->destination, peer, 16);
	ask->source_identity = endpoint->identity;
	ask->destination_identity = judgement->peer_identity;
	ask->endpoint = id;
	ask->rule = judgement->rule.id;
	ask->plugin = judgement->rule.plugin;
	ask->destination_port = socket->user_port;
	ask->protocol = socket->protocol;
	ask->direction = DIRECTION_EGRESS;
	ask->context = judgement->rule.context;
}

/*
 * Judges a flow that a process is about to open. What a plugin must decide about packets is left to their program. Where requests
 * are decided, origin says where a connection goes; its endpoint is 0 where they are not.
 */
static __always_inline int cgroup_socket(struct bpf_sock_addr *socket, const __u8 *peer, struct origin *origin)
{
	__u32 id = cgroup_endpoint(), zero = 0;
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &id);
	struct question question = {
		.peer = peer,
		.port = bpf_ntohs(socket->user_port),
		.protocol = socket->protocol,
		.direction = DIRECTION_EGRESS,
		.trusts_node = 1,
		.endpoint = id,
	};
	const __u32 *words = (const __u32 *)peer;
	struct judgement judgement = {};
	struct ask *ask;

	/* No address means this host, in either family. */
	if (!id || loopback_address(peer) || (!words[0] && !words[1] && !words[3]))
		return CGROUP_ALLOW;
	if (!endpoint) {
		count_bytes(REASON_DROP_NO_ENDPOINT, 0);
		return CGROUP_DENY;
	}
	endpoint_judge(endpoint, &question, &judgement);
	if (judgement.rule.action == ACTION_ALLOW ||
	    (judgement.rule.action == ACTION_ASK && (judgement.rule.context != CONTEXT_HTTP || !origin || socket->protocol != IPPROTO_TCP)))
		return CGROUP_ALLOW;
	ask = bpf_map_lookup_elem(&questions, &zero);
	if (!ask)	/* not possible: an array map's first entry */
		return CGROUP_DENY;
	connect_ask_fill(ask, socket, endpoint, &judgement, peer, id);
	if (judgement.rule.action == ACTION_ASK && origin)
		return connect_requests(socket, ask, origin);
	/* What is asked decides whether a resolver may be: the packets' program reads it. */
	if ((endpoint->flags & ENDPOINT_NAMES) && socket->user_port == DNS_PORT && bpf_map_lookup_elem(&resolvers, peer))
		return CGROUP_ALLOW;
	count_bytes(REASON_DROP_POLICY, 0);
	flow_record_write(ask, VERDICT_DENY, REASON_DROP_POLICY);
	return CGROUP_DENY;
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

	/* What was noted of an earlier connect() with this socket is over. */
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
