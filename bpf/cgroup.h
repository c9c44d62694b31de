/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The programs of processes: pods in the host's network and chosen processes of the host, which have no interface of their own.
 *
 * from_process and to_process see every packet of the cgroup's sockets. The connect and sendmsg programs judge the same
 * flow earlier, so that what policy denies fails at once with EPERM and not by a time-out; they track nothing.
 */
#ifndef SLUICE_CGROUP_H
#define SLUICE_CGROUP_H

#include "endpoint.h"

/* What programs on cgroups return. */
#define CGROUP_DENY 0
#define CGROUP_ALLOW 1

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

/* Judges a flow that a process is about to open. What a plugin must decide is left to the packets' program. */
static __always_inline int cgroup_socket(struct bpf_sock_addr *socket, const __u8 *peer)
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
	struct ask *denied;

	/* No address means this host, in either family. */
	if (!id || loopback_address(peer) || (!words[0] && !words[1] && !words[3]))
		return CGROUP_ALLOW;
	if (!endpoint) {
		count_bytes(REASON_DROP_NO_ENDPOINT, 0);
		return CGROUP_DENY;
	}
	endpoint_judge(endpoint, &question, &judgement);
	if (judgement.rule.action != ACTION_DENY)
		return CGROUP_ALLOW;
	/* What is asked decides whether a resolver may be: the packets' program reads it. */
	if ((endpoint->flags & ENDPOINT_NAMES) && socket->user_port == DNS_PORT && bpf_map_lookup_elem(&resolvers, peer))
		return CGROUP_ALLOW;
	count_bytes(REASON_DROP_POLICY, 0);
	denied = bpf_map_lookup_elem(&questions, &zero);
	if (!denied)	/* not possible: an array map's first entry */
		return CGROUP_DENY;
	__builtin_memset(denied, 0, sizeof(*denied));
	denied->time_ns = bpf_ktime_get_ns();
	denied->name = name_find(id, peer);
	__builtin_memcpy(denied->source, words[2] == bpf_htonl(0xffff) && !words[0] ? endpoint->ipv4 : endpoint->ipv6, 16);
	__builtin_memcpy(denied->destination, peer, 16);
	denied->source_identity = endpoint->identity;
	denied->destination_identity = judgement.peer_identity;
	denied->endpoint = id;
	denied->rule = judgement.rule.id;
	denied->destination_port = socket->user_port;
	denied->protocol = socket->protocol;
	denied->direction = DIRECTION_EGRESS;
	flow_record_write(denied, VERDICT_DENY, REASON_DROP_POLICY);
	return CGROUP_DENY;
}

static __always_inline int cgroup_socket4(struct bpf_sock_addr *socket)
{
	__u32 peer[4];

	address_map_ipv4((__u8 *)peer, socket->user_ip4);
	return cgroup_socket(socket, (const __u8 *)peer);
}

static __always_inline int cgroup_socket6(struct bpf_sock_addr *socket)
{
	__u32 peer[4] = { socket->user_ip6[0], socket->user_ip6[1], socket->user_ip6[2], socket->user_ip6[3] };

	return cgroup_socket(socket, (const __u8 *)peer);
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *socket)
{
	return cgroup_socket4(socket);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *socket)
{
	return cgroup_socket6(socket);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *socket)
{
	return cgroup_socket4(socket);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *socket)
{
	return cgroup_socket6(socket);
}

#endif
