/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections of processes of which each HTTP request is decided, or whose backend a verdict names.
 *
 * The work that proxy.h and translate.h do on a pod's packets is done here when a process calls connect(): its socket is connected to the proxy's
 * listener on this node's loopback, or to a backend. What it meant is noted with the socket: the proxy finds it there when it
 * takes the connection, getpeername() tells the process, and the packets' program knows by it that the connection was decided.
 */
#ifndef SLUICE_CONNECT_H
#define SLUICE_CONNECT_H

#include "backends.h"
#include "failure.h"
#include "verdict.h"

#define INADDR_LOOPBACK 0x7f000001

/* Whether the proxy takes connections of this socket's network; leaves where. A listener leaves its map when the engine is gone. */
static __always_inline int proxy_listens(struct bpf_sock_addr *socket, const struct ask *ask, struct translation *to)
{
	__u32 loopback[4] = { 0, 0, 0, bpf_htonl(1) };
	int ipv4 = address_is_ipv4(ask->destination);
	__u32 index = ipv4 ? PROXY_LISTENER_IPV4 : PROXY_LISTENER_IPV6;
	struct engine_state *engine = engine_state();
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

/* Leaves in origin a backend of the journey's set; the journey gets the verdict. */
static __always_inline void connect_route(struct journey *journey, struct origin *origin, enum reason routed)
{
	if (backend_choose(&origin->sent, journey, bpf_get_prandom_u32()))
		journey_allow(journey, routed);
	else
		journey_deny(journey, REASON_DROP_NO_BACKEND, journey->ask.rule);
}

/* Where nobody decides about a connection's requests: the proxy will, or the failure policy does. */
static __always_inline void connect_undecided(struct bpf_sock_addr *socket, struct journey *journey, struct origin *origin,
					      const struct plugin_state *plugin)
{
	if (plugin_is_on(plugin) && proxy_listens(socket, &journey->ask, &origin->sent)) {
		origin->proxied = 1;
		journey_allow(journey, REASON_PASS_PROXY);
		return;
	}
	if (!failure_allows(&journey->ask, plugin, plugin_is_on(plugin) ? REASON_FAIL_PROXY_ABSENT : REASON_FAIL_PLUGIN_OFF, 0))
		journey_deny(journey, REASON_DROP_FAILURE_POLICY, journey->ask.rule);
	else if (backend_default(journey))
		connect_route(journey, origin, REASON_PASS_FAILURE_POLICY);
	else
		journey_allow(journey, REASON_PASS_FAILURE_POLICY);
}

/* Says where a connection goes that policy has the requests of decided; the journey gets the verdict. */
static __always_inline void connect_decide(struct bpf_sock_addr *socket, struct journey *journey, struct origin *origin)
{
	struct plugin_state *plugin = plugin_find(journey->ask.plugin);
	enum verdict verdict = VERDICT_NEXT;

	if (plugin_is_on(plugin))
		verdict = verdict_find(journey, plugin, journey->ask.time_ns, 0);
	if (verdict == VERDICT_ALLOW)
		journey_allow(journey, REASON_PASS_VERDICT);
	else if (verdict == VERDICT_DENY)
		journey_deny(journey, REASON_DROP_VERDICT, journey->ask.rule);
	else if (verdict == VERDICT_ROUTE)
		connect_route(journey, origin, REASON_PASS_ROUTED);
	else
		connect_undecided(socket, journey, origin, plugin);
}

/* Connects a socket to where its requests are decided, or to what they are known to go to; leaves that in origin. */
static __always_inline int connect_requests(struct bpf_sock_addr *socket, struct journey *journey, struct origin *origin)
{
	const struct ask *ask = &journey->ask;

	translation_fill(&origin->opened, ask->destination, ask->destination_port);
	origin->sent = origin->opened;
	origin->endpoint = ask->endpoint;
	origin->proxied = 0;
	connect_decide(socket, journey, origin);
	/* The failure policy's decision is counted and told where it is asked. */
	if (journey->reason != REASON_PASS_FAILURE_POLICY && journey->reason != REASON_DROP_FAILURE_POLICY) {
		count_bytes(journey->reason, 0);
		if (journey->denied)
			flow_record_write(ask, VERDICT_DENY, journey->reason);
	}
	if (journey->denied)
		return CGROUP_DENY;
	if (bpf_sk_storage_get(&origins, socket->sk, origin, BPF_SK_STORAGE_GET_F_CREATE))
		return CGROUP_ALLOW;
	count_bytes(REASON_FAIL_CONNTRACK_FULL, 0);
	flow_record_write(ask, VERDICT_DENY, REASON_FAIL_CONNTRACK_FULL);
	return CGROUP_DENY;
}

/* The destination that a socket was meant for which was connected elsewhere, or NULL. */
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

/* Whether connect() has sent this socket where its packet goes. */
static __always_inline int packet_was_connected(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_sock *sk = skb->sk;
	struct origin *origin;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	origin = bpf_sk_storage_get(&origins, sk, NULL, 0);
	return origin && address_equals(origin->sent.address, packet->destination) && origin->sent.port == packet->destination_port;
}

static __always_inline int connected_packet(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy)
{
	const struct ask *ask = &journey->ask;
	struct plugin_state *plugin = plugin_find(ask->plugin);
	struct tracking tracking;

	if (!packet_was_connected(skb, &journey->packet))
		return failure_policy(skb, ask, plugin, REASON_FAIL_CANNOT_HOLD);
	journey->judged.plugin = ask->plugin;
	journey->judged.epoch = plugin ? plugin->epoch : 0;
	journey->judged.context = CONTEXT_HTTP;
	tracking_resume(&tracking, journey, policy);
	connection_track(skb, &tracking, &journey->judged, DIRECTION_EGRESS);
	return pass(skb, REASON_PASS_POLICY);
}

/* A packet that a process sends under a rule about requests passes where connect() has said that this is decided. */
SEC("cgroup_skb/egress")
int connected(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_PROCESS);
	struct policy_state *policy = policy_state();

	if (!journey || !policy)	/* not possible */
		return hook_outcome(drop(skb, REASON_FAIL_STAGE), HOOK_FROM_PROCESS);
	return journey_end(journey, connected_packet(skb, journey, policy), HOOK_FROM_PROCESS);
}

/*
 * Run by the proxy on a struct accepted in a packet's place: its answer is what the socket at the other end was connected to. Returns
 * 0, or 1 where it is none that was sent here.
 */
SEC("tc")
int origin_of(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = sizeof(tuple.ipv6);
	struct accepted accepted;
	struct origin *found;
	struct bpf_sock *sk;

	if (bpf_skb_load_bytes(skb, 0, &accepted, sizeof(accepted)))
		return 1;
	if (address_is_ipv4(accepted.remote.address)) {
		size = sizeof(tuple.ipv4);
		__builtin_memcpy(&tuple.ipv4.saddr, accepted.local.address + 12, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, accepted.remote.address + 12, 4);
		tuple.ipv4.sport = accepted.local.port;
		tuple.ipv4.dport = accepted.remote.port;
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, accepted.local.address, 16);
		__builtin_memcpy(tuple.ipv6.daddr, accepted.remote.address, 16);
		tuple.ipv6.sport = accepted.local.port;
		tuple.ipv6.dport = accepted.remote.port;
	}
	sk = bpf_sk_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 1;
	found = bpf_sk_storage_get(&origins, sk, NULL, 0);
	if (found)
		accepted.origin = *found;
	bpf_sk_release(sk);
	if (!found || !accepted.origin.proxied)
		return 1;
	return bpf_skb_store_bytes(skb, 0, &accepted, sizeof(accepted), 0) ? 1 : 0;
}

#endif
