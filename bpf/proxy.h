/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The way to the engine's proxy and back, for connections of which each HTTP request is decided.
 *
 * The proxy is a network namespace of its own in which every address is local, behind one veth. The pod's packets are handed over
 * at its interface, before any address translation of the node; what the proxy sends, with the address of the service or of the
 * pod as its source, goes to a pod of this node directly, and elsewhere as if the pod had sent it.
 */
#ifndef SLUICE_PROXY_H
#define SLUICE_PROXY_H

#include "translate.h"

#define ADDRESS_FAMILY_IPV4 2
#define ADDRESS_FAMILY_IPV6 10

/* Reached only while the engine lives. */
SEC("tc")
int to_proxy(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_POD);
	struct engine_state *engine = engine_state();
	struct policy_state *policy = policy_state();

	if (!journey || !engine || !policy)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	if (!engine->proxy || engine->proxy_heartbeat_ns + engine->stale_ns < journey->ask.time_ns) {
		journey_deny(journey, REASON_FAIL_PROXY_ABSENT, journey->ask.rule);
		enter_undecided(skb);
		return deny(skb, &journey->ask, REASON_FAIL_PROXY_ABSENT);
	}
	journey_track(skb, journey, policy, FLOW_PATH_PROXIED);
	journey_allow(journey, REASON_PASS_PROXY);
	if (!journey_has_backend(journey))
		return proxy_send(skb, journey, REASON_PASS_PROXY);
	enter_translate_out(skb);
	return packet_drop(skb, journey, DIRECTION_EGRESS, REASON_FAIL_STAGE);
}

/* Nobody decides: the failure policy does, for a connection that then stays as it is. */
SEC("tc")
int undecided(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_POD);
	struct policy_state *policy = policy_state();
	struct ask *ask;

	if (!journey || !policy)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	ask = &journey->ask;
	if (failure_policy(skb, ask, plugin_find(ask->plugin), journey->reason) == OUTCOME_DROP) {
		journey_deny(journey, REASON_DROP_FAILURE_POLICY, ask->rule);
		enter_refuse(skb);
		return OUTCOME_DROP;
	}
	if (!journey->packet.opens)
		return deny(skb, ask, REASON_DROP_NOT_PROXIED);
	if (backend_default(journey)) {
		enter_route(skb);
		return deny(skb, ask, REASON_FAIL_STAGE);
	}
	journey_track(skb, journey, policy, 0);
	return packet_go(skb, journey, HOOK_FROM_POD);
}

/* Reached for an answer to the proxy that comes from elsewhere than this node's endpoints: handed over as to any interface. */
SEC("tc")
int return_to_proxy(struct __sk_buff *skb)
{
	__u8 address[ETH_ALEN] = PROXY_LINK_ADDRESS;
	struct journey *journey = journey_resume(skb, HOOK_TO_POD);
	struct engine_state *engine = engine_state();

	if (!journey)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	if (!engine || !engine->proxy || bpf_skb_store_bytes(skb, 0, address, sizeof(address), 0))
		return packet_drop(skb, journey, DIRECTION_INGRESS, REASON_FAIL_PROXY_ABSENT);
	count(skb, REASON_PASS_PROXY);
	return bpf_redirect(engine->proxy, 0);
}

/*
 * Sends a packet from a pod's address to somewhere else as if the pod had: routing, address translation and reverse path filters
 * of the node take it for that. Its answers come to the pod's interface, where the connection is known by what is noted here.
 */
static __always_inline int proxy_forward(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy)
{
	struct local_endpoint *local = bpf_map_lookup_elem(&local_endpoints, journey->packet.source);
	struct engine_state *engine = engine_state();

	/* Its network's own group reports are no loss of anybody's. */
	if ((!local || !engine) && journey->packet.protocol != IPPROTO_TCP)
		return drop(skb, REASON_DROP_NO_ENDPOINT);
	if (!local || !engine)
		return packet_drop(skb, journey, DIRECTION_EGRESS, REASON_DROP_NO_ENDPOINT);
	if (journey->packet.opens) {
		journey->endpoint = local->id;
		journey->judged.revision = policy->revision;
		journey->judged.direction = DIRECTION_EGRESS;
		journey_track(skb, journey, policy, FLOW_PATH_PROXIED);
	}
	skb->mark = engine->token + MARK_FORWARDED;
	return bpf_redirect(local->id, BPF_F_INGRESS);
}

/* Sends what the proxy says to an endpoint through that one's interface, where it is judged. */
static __always_inline int proxy_deliver(struct __sk_buff *skb, struct journey *journey)
{
	const struct packet *packet = &journey->packet;
	struct bpf_fib_lookup route = { .ifindex = skb->ifindex };
	int result;

	if (packet_is_ipv4(packet)) {
		route.family = ADDRESS_FAMILY_IPV4;
		__builtin_memcpy(&route.ipv4_src, packet->source + 12, 4);
		__builtin_memcpy(&route.ipv4_dst, packet->destination + 12, 4);
	} else {
		route.family = ADDRESS_FAMILY_IPV6;
		__builtin_memcpy(route.ipv6_src, packet->source, 16);
		__builtin_memcpy(route.ipv6_dst, packet->destination, 16);
	}
	result = bpf_fib_lookup(skb, &route, sizeof(route), 0);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return packet_drop(skb, journey, DIRECTION_INGRESS, REASON_DROP_NO_ENDPOINT);
	return bpf_redirect_neigh(route.ifindex, NULL, 0, 0);
}

/* Whether a packet from the proxy is of a connection that its endpoint's programs would let pass without a question; notes it then. */
static __always_inline int proxy_packet_passes(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy)
{
	const struct packet *packet = &journey->packet;
	struct tracking tracking;
	struct connection *connection;
	int answer;

	if (packet->protocol != IPPROTO_TCP || packet->first_fragment || packet_is_dns(packet, DIRECTION_INGRESS))
		return 0;
	tracking_begin(&tracking, journey, policy, DIRECTION_INGRESS);
	connection_find(&tracking, DIRECTION_INGRESS);
	connection = tracking.connection;
	if (!connection || connection->revision != policy->revision || connection->path != FLOW_PATH_PROXIED ||
	    (connection->flags & CONNECTION_UNREAD))
		return 0;
	answer = connection->direction != DIRECTION_INGRESS;
	if (!answer && !connection_is_current(connection))
		return 0;
	connection_touch(skb, &tracking, DIRECTION_INGRESS);
	count(skb, answer ? REASON_PASS_REPLY : REASON_PASS_ESTABLISHED);
	return 1;
}

/*
 * At the ingress of the host's side of the proxy's veth. What the proxy sends to an endpoint of this node goes straight there, so
 * that no address translation or connection tracking of the node sees half a connection: into its network, where nothing is
 * left to be judged, else to its interface. Of everything else the node sees both directions.
 */
SEC("tc")
int from_proxy(struct __sk_buff *skb)
{
	struct journey *journey = journey_begin(skb, 0, HOOK_TO_POD);
	struct policy_state *policy = policy_state();
	struct local_endpoint *local;

	if (!journey || !policy)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	journey->parsed = packet_parse(skb, &journey->packet, sizeof(struct ethhdr));
	/* Its network looks for neighbours, and has none. */
	if (journey->parsed == PARSED_NOT_IP || journey->parsed == PARSED_NEIGHBOR)
		return drop(skb, REASON_DROP_NO_ENDPOINT);
	if (journey->parsed != PARSED_FLOW)
		return packet_drop(skb, journey, DIRECTION_INGRESS, REASON_DROP_MALFORMED);
	local = bpf_map_lookup_elem(&local_endpoints, journey->packet.destination);
	if (!local)
		return proxy_forward(skb, journey, policy);
	journey->endpoint = local->id;
	if (local->peered && proxy_packet_passes(skb, journey, policy)) {
		bpf_skb_change_type(skb, PACKET_TYPE_HOST);
		return bpf_redirect_peer(local->id, 0);
	}
	return proxy_deliver(skb, journey);
}

/* In the proxy's network namespace: whatever a connection is for, the one listener takes it. */
SEC("sk_lookup")
int pick_listener(struct bpf_sk_lookup *lookup)
{
	__u32 pods = PROXY_LISTENER_PODS;
	struct bpf_sock *listener = bpf_map_lookup_elem(&proxy_listeners, &pods);

	if (!listener) {
		count_bytes(REASON_FAIL_PROXY_ABSENT, 0);
		return SK_DROP;
	}
	bpf_sk_assign(lookup, listener, 0);
	bpf_sk_release(listener);
	return SK_PASS;
}

#endif
