/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections of processes of which each HTTP request is decided, or whose backend a verdict names.
 *
 * What requests.h does with a pod's packets is done here when a process calls connect(): its socket is connected to the proxy's
 * listener on this node's loopback, or to a backend. What it meant is noted with the socket: the proxy finds it there when it
 * takes the connection, getpeername() tells the process, and the packets' program knows by it that the connection was decided.
 */
#ifndef SLUICE_CONNECT_H
#define SLUICE_CONNECT_H

#include "requests.h"

/* What programs on cgroups return. */
#define CGROUP_DENY 0
#define CGROUP_ALLOW 1
#define INADDR_LOOPBACK 0x7f000001

/* Whether the proxy takes connections of this socket's network; leaves where. A listener leaves its map when the engine is gone. */
static __always_inline int proxy_listens(struct bpf_sock_addr *socket, const struct ask *ask, struct translation *to)
{
	__u32 loopback[4] = { 0, 0, 0, bpf_htonl(1) };
	int ipv4 = address_is_ipv4(ask->destination);
	__u32 zero = 0, index = ipv4 ? PROXY_LISTENER_IPV4 : PROXY_LISTENER_IPV6;
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);
	struct bpf_sock *listener;

	if (!engine || engine->proxy_heartbeat_ns + engine->stale_ns < ask->time_ns || engine->network != bpf_get_netns_cookie(socket))
		return 0;
	listener = bpf_map_lookup_elem(&proxy_listeners, &index);
	if (!listener)
		return 0;
	if (ipv4)
		address_map_ipv4((__u8 *)loopback, bpf_htonl(INADDR_LOOPBACK));
	translation_fill(to, (const __u8 *)loopback, bpf_htons(listener->src_port));
	bpf_sk_release(listener);
	return 1;
}

/* Says where a connection goes that policy has the requests of decided. Returns enum reason: above REASON_DROP_POLICY it goes nowhere. */
static __always_inline enum reason connect_decide(struct bpf_sock_addr *socket, struct ask *ask, struct origin *origin)
{
	struct plugin_state *plugin = plugin_find(ask->plugin);
	enum reason why = REASON_FAIL_PLUGIN_OFF, routed = REASON_PASS_ROUTED;
	enum verdict verdict = VERDICT_NEXT;

	if (plugin && plugin->status == PLUGIN_ON) {
		verdict = verdict_find(ask, plugin, ask->time_ns, 0);
		why = REASON_FAIL_PROXY_ABSENT;
	}
	if (verdict == VERDICT_ALLOW)
		return REASON_PASS_VERDICT;
	if (verdict == VERDICT_DENY)
		return REASON_DROP_VERDICT;
	if (verdict == VERDICT_NEXT) {
		if (why == REASON_FAIL_PROXY_ABSENT && proxy_listens(socket, ask, &origin->sent)) {
			origin->proxied = 1;
			return REASON_PASS_PROXY;
		}
		if (!failure_allows(ask, plugin, why, 0))
			return REASON_DROP_FAILURE_POLICY;
		if (!backend_default(ask))
			return REASON_PASS_FAILURE_POLICY;
		routed = REASON_PASS_FAILURE_POLICY;
	}
	return backend_choose(&origin->sent, ask->sequence, ask->source, bpf_get_prandom_u32(), address_is_ipv4(ask->destination),
			      ask->endpoint) ? routed : REASON_DROP_NO_BACKEND;
}

/* Connects a socket to where its requests are decided, or to what they are known to go to; leaves that in origin. */
static __always_inline int connect_requests(struct bpf_sock_addr *socket, struct ask *ask, struct origin *origin)
{
	enum reason reason;

	translation_fill(&origin->opened, ask->destination, ask->destination_port);
	origin->sent = origin->opened;
	origin->endpoint = ask->endpoint;
	origin->proxied = 0;
	reason = connect_decide(socket, ask, origin);
	/* What the failure policy does is counted and told where it is asked. */
	if (reason != REASON_PASS_FAILURE_POLICY && reason != REASON_DROP_FAILURE_POLICY)
		count_bytes(reason, 0);
	if (reason == REASON_DROP_VERDICT || reason == REASON_DROP_NO_BACKEND)
		flow_record_write(ask, VERDICT_DENY, reason);
	if (reason >= REASON_DROP_POLICY)
		return CGROUP_DENY;
	return bpf_sk_storage_get(&origins, socket->sk, origin, BPF_SK_STORAGE_GET_F_CREATE) ? CGROUP_ALLOW : CGROUP_DENY;
}

/* What a socket that was connected elsewhere was meant for, or NULL. */
static __always_inline struct origin *origin_find(struct bpf_sock_addr *socket)
{
	return socket->sk ? bpf_sk_storage_get(&origins, socket->sk, NULL, 0) : NULL;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *socket)
{
	struct origin *origin = origin_find(socket);

	if (origin) {
		socket->user_ip4 = ((__u32 *)origin->opened.address)[3];
		socket->user_port = origin->opened.port;
	}
	return CGROUP_ALLOW;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *socket)
{
	struct origin *origin = origin_find(socket);

	if (origin) {
		__u32 *words = (__u32 *)origin->opened.address;

		socket->user_ip6[0] = words[0];
		socket->user_ip6[1] = words[1];
		socket->user_ip6[2] = words[2];
		socket->user_ip6[3] = words[3];
		socket->user_port = origin->opened.port;
	}
	return CGROUP_ALLOW;
}

/* Reached for what a process sends under a rule about requests: it passes where connect() has said that this is decided. */
SEC("cgroup_skb/egress")
int requests_sent(struct __sk_buff *skb)
{
	__u32 zero = 0, id = skb->cb[1], revision = skb->cb[2];
	struct ask *ask = bpf_map_lookup_elem(&questions, &zero);
	struct policy_state *policy = bpf_map_lookup_elem(&policy_states, &zero);
	struct bpf_sock *sk = skb->sk;
	struct origin *origin = NULL;
	struct tracking tracking = {};
	struct judged judged = {};
	struct packet packet = {};
	struct plugin_state *plugin;

	if (!ask || !policy || packet_parse(skb, &packet, 0) != PARSED_FLOW) {
		count(skb, REASON_DROP_MALFORMED);
		return CGROUP_DENY;
	}
	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (sk)
		origin = bpf_sk_storage_get(&origins, sk, NULL, 0);
	plugin = plugin_find(ask->plugin);
	if (!origin || !address_equals(origin->sent.address, packet.destination) || origin->sent.port != packet.destination_port)
		return failure_policy(skb, ask, plugin, REASON_FAIL_CANNOT_HOLD) == OUTCOME_NEXT ? CGROUP_ALLOW : CGROUP_DENY;
	judged_fill(&judged, ask, revision, FLOW_PATH_STRAIGHT);
	tracking.now_ns = bpf_ktime_get_coarse_ns();
	connection_key_fill(&tracking.key, &packet, id, DIRECTION_EGRESS);
	connection_find(&tracking, policy, &packet, DIRECTION_EGRESS);
	connection_track(skb, &tracking, policy, &packet, &judged, DIRECTION_EGRESS);
	count(skb, REASON_PASS_POLICY);
	return CGROUP_ALLOW;
}

/*
 * Run by the proxy on a struct origin in a packet's place: opened is an end that its listener has accepted, sent the other one. It is
 * overwritten by what that socket was connected to. Returns 0, or 1 where it is none that was sent here.
 */
SEC("tc")
int origin_of(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct origin *found, origin;
	struct bpf_sock *sk;
	__u32 size = sizeof(tuple.ipv6);

	if (bpf_skb_load_bytes(skb, 0, &origin, sizeof(origin)))
		return 1;
	if (address_is_ipv4(origin.sent.address)) {
		size = sizeof(tuple.ipv4);
		__builtin_memcpy(&tuple.ipv4.saddr, origin.opened.address + 12, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, origin.sent.address + 12, 4);
		tuple.ipv4.sport = origin.opened.port;
		tuple.ipv4.dport = origin.sent.port;
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, origin.opened.address, 16);
		__builtin_memcpy(tuple.ipv6.daddr, origin.sent.address, 16);
		tuple.ipv6.sport = origin.opened.port;
		tuple.ipv6.dport = origin.sent.port;
	}
	sk = bpf_sk_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 1;
	found = bpf_sk_storage_get(&origins, sk, NULL, 0);
	if (found)
		origin = *found;
	bpf_sk_release(sk);
	if (!found || !origin.proxied)
		return 1;
	return bpf_skb_store_bytes(skb, 0, &origin, sizeof(origin), 0) ? 1 : 0;
}

#endif
