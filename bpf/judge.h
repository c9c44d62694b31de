/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The stage that judges: a packet of a connection that is new, or that was judged under other rules.
 *
 * A packet that policy allows is tracked and leaves; one that it denies leaves a record; where a plugin decides, the next stage asks.
 */
#ifndef SLUICE_JUDGE_H
#define SLUICE_JUDGE_H

#include "describe.h"
#include "leave.h"
#include "backends.h"

#define LINK_LOCAL_PREFIX bpf_htonl(0xfe800000)
#define LINK_LOCAL_MASK bpf_htonl(0xffc00000)
/* In every network namespace (net/core/net_namespace.c makes it first). */
#define LOOPBACK_IFINDEX 1

/*
 * Whether the endpoint may send from this address: its own, or what IPv6 needs before it has one. An endpoint whose
 * addresses are not known yet may send from none.
 */
static __always_inline int endpoint_owns(const struct endpoint *endpoint, const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	if (address_equals(address, endpoint->ipv4) || address_equals(address, endpoint->ipv6))
		return 1;
	return (words[0] & LINK_LOCAL_MASK) == LINK_LOCAL_PREFIX;
}

/* Whether an endpoint talks to itself: no policy is about that. Nobody else can make a packet come in where it goes out. */
static __always_inline int endpoint_is_self(struct __sk_buff *skb, const struct endpoint *endpoint, const __u8 *peer,
					    const enum hook hook)
{
	if (!hook_is_interface(hook) || (hook == HOOK_TO_POD && skb->ingress_ifindex != skb->ifindex))
		return 0;
	return address_equals(peer, endpoint->ipv4) || address_equals(peer, endpoint->ipv6);
}

/* Whether the node's own address as the peer is believed: what comes from the node itself entered through no interface. */
static __always_inline int packet_trusts_node(struct __sk_buff *skb, const enum hook hook)
{
	if (hook_direction(hook) == DIRECTION_EGRESS)
		return 1;
	return skb->ingress_ifindex == (hook_is_interface(hook) ? 0 : LOOPBACK_IFINDEX);
}

/*
 * Whether a packet may begin a tracked connection. What comes from port 53 may be the answer to a query that passed for its
 * name and is not tracked: were it a connection that the resolver opened, any query from its port would be an answer to that.
 */
static __always_inline int endpoint_tracks(const struct endpoint *endpoint, const struct journey *journey, enum direction direction)
{
	return direction == DIRECTION_EGRESS || journey->packet.opens || !journey_is_resolver(journey, direction) ||
	       !(endpoint->flags & ENDPOINT_NAMES);
}

/*
 * Whether an ICMP error is about a connection of the endpoint that is allowed under this revision: path MTU discovery, and
 * refusals that reach who was refused.
 */
static __always_inline int packet_is_related(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
					     const enum hook hook)
{
	enum direction quoted_direction = hook_direction(hook) == DIRECTION_EGRESS ? DIRECTION_INGRESS : DIRECTION_EGRESS;
	struct quote *quote = &journey->quote;
	struct tracking tracking = {
		.packet = &quote->packet,
		.policy = policy,
		.key = &quote->key,
		.copy = &quote->copy,
		.now_ns = journey->now_ns,
	};

	__builtin_memset(quote, 0, sizeof(*quote));
	if (!packet_quote(skb, &journey->packet, &quote->packet) ||
	    !address_equals(packet_local(&quote->packet, quoted_direction), packet_local(&journey->packet, hook_direction(hook))))
		return 0;
	connection_key_fill(&quote->key, &quote->packet, journey->endpoint, quoted_direction);
	connection_seek(&tracking, quoted_direction);
	if (!tracking.connection)
		return 0;
	if (hook == HOOK_TO_POD && (tracking.connection->path & (FLOW_PATH_BACKEND | FLOW_PATH_TRANSLATED))) {
		journey->quotes = 1;
		journey->judged.other = tracking.connection->other;
	}
	return tracking.connection->revision == policy->revision;
}

/*
 * Lets a later fragment follow the first one where that passed; where that was given another address, this one gets it, too. Returns
 * whether it follows. Global, as packet_parse.
 */
__noinline int fragment_follow(struct journey *journey, __u32 direction, int interface)
{
	struct fragment_key key;
	const struct fragment *first;
	struct translation other;

	if (!journey)
		return 0;
	fragment_key_fill(&key, &journey->packet, journey->endpoint, direction);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first || first->until_ns <= bpf_ktime_get_ns())
		return 0;
	if (!interface || address_is_unspecified(first->other))
		return 1;
	translation_fill(&other, first->other, 0);
	if (direction == DIRECTION_EGRESS) {
		journey_give_backend(journey, &other);
	} else {
		journey->judged.path = FLOW_PATH_BACKEND;
		journey->judged.other = other;
	}
	return 1;
}

/*
 * Decides what needs no rule: packets that cannot be judged, and those of an endpoint with itself. Returns whether that is one; its
 * journey has the verdict.
 */
static __always_inline int packet_needs_no_rule(struct __sk_buff *skb, struct journey *journey, const struct endpoint *endpoint,
						const enum hook hook)
{
	const enum direction direction = hook_direction(hook);
	const struct packet *packet = &journey->packet;
	const __u8 *peer = direction == DIRECTION_EGRESS ? packet->destination : packet->source;
	int isolated = endpoint_rule_set(endpoint, direction) != RULE_SET_NONE;

	if (journey->parsed == PARSED_MALFORMED && isolated)
		journey_deny(journey, REASON_DROP_MALFORMED, 0);
	else if (journey->parsed == PARSED_MALFORMED)
		journey_allow(journey, REASON_PASS_MALFORMED);
	else if (hook == HOOK_FROM_POD && !endpoint_owns(endpoint, packet->source))
		journey_deny(journey, REASON_DROP_SPOOFED, 0);
	else if (journey->parsed == PARSED_LATER_FRAGMENT && !fragment_follow(journey, direction, hook_is_interface(hook)) && isolated)
		journey_deny(journey, REASON_DROP_FRAGMENT, 0);
	else if (journey->parsed == PARSED_LATER_FRAGMENT)
		journey_allow(journey, REASON_PASS_FRAGMENT);
	else if (endpoint_is_self(skb, endpoint, peer, hook))
		journey_allow(journey, REASON_PASS_SELF);
	else if (!hook_is_interface(hook) && address_is_loopback(peer))
		journey_allow(journey, REASON_PASS_LOOPBACK);
	else
		return 0;
	return 1;
}

/* The next step for a packet; the verdict is in its journey. */
enum judged_as {
	JUDGED_END,		/* it passes or is dropped, and that is all */
	JUDGED_LEAVE,		/* it passes by the path of its connection */
	JUDGED_TRACK,		/* the same, and its connection is tracked */
	JUDGED_DENY,		/* policy denies it; what is asked of a resolver may decide otherwise */
	JUDGED_ASK,		/* a plugin decides */
	JUDGED_SERVICE,		/* it is to be given a backend, and judged by that */
	JUDGED_STRAY,		/* it has one that nobody here knows */
};

/* Judges the flow that the packet is of. */
static __always_inline void flow_judge(struct __sk_buff *skb, struct journey *journey, const struct endpoint *endpoint,
				       const enum hook hook)
{
	struct flow flow;

	flow_of_packet(&flow, &journey->packet, journey->endpoint, hook_direction(hook), journey->answer);
	flow.tracked = journey->found != FOUND_NOTHING;
	flow.trusts_node = journey->answer || packet_trusts_node(skb, hook);
	endpoint_judge(endpoint, &flow, &journey->judgement);
	journey->judged.peer_identity = journey->judgement.peer_identity;
}

/* Describes a flow that policy does not simply allow: to the engine, or in a record. */
static __always_inline void flow_describe(struct __sk_buff *skb, struct journey *journey, const struct endpoint *endpoint,
					  const enum hook hook)
{
	enum direction direction = hook_direction(hook);
	struct ask *ask = ask_fill(journey, endpoint, direction,
				   direction == DIRECTION_EGRESS ? name_find(journey->endpoint, journey->packet.destination) : 0);

	ask_fill_packet(ask, skb, &journey->packet);
	if (journey->found != FOUND_NOTHING)
		ask->flags |= ASK_ESTABLISHED;
}

/* Whether the rule has the requests decided of connections to the very Services that it names: it is about their addresses. */
static __always_inline int rule_names_services(const struct rule *rule)
{
	__u32 id = rule->id;

	return rule->action == ACTION_ASK && rule->context == CONTEXT_HTTP && bpf_map_lookup_elem(&rule_backends, &id);
}

/* The backend set of the Service that a packet is to, or, of one that the pod has connected to, from; 0 where policy is not about its backends. */
static __always_inline __u32 journey_service(const struct journey *journey, const struct endpoint *endpoint, const enum hook hook)
{
	const struct packet *packet = &journey->packet;
	const struct service *service = NULL;

	if (!hook_is_interface(hook) || !(endpoint->flags & ENDPOINT_SERVICES) || journey_has_backend(journey) ||
	    rule_names_services(&journey->judgement.rule))
		return 0;
	if (hook == HOOK_FROM_POD && !journey->answer)
		service = service_find(packet->destination, packet->destination_port, packet->protocol);
	else if (hook == HOOK_TO_POD && journey->answer)
		service = service_find(packet->source, packet->source_port, packet->protocol);
	return service ? service->set : 0;
}

/*
 * Judges a packet to or from a Service's address. Its first one is given a backend. Of any other somebody else has chosen that: another
 * stage finds out whether policy allows all that it may be, and comes back.
 */
static __always_inline enum judged_as service_judge(struct __sk_buff *skb, struct journey *journey, const struct endpoint *endpoint, __u32 set,
						    const enum hook hook)
{
	const struct packet *packet = &journey->packet;

	if (journey->stray) {
		journey_allow(journey, journey->answer ? REASON_PASS_REPLY : REASON_PASS_POLICY);
		return JUDGED_TRACK;
	}
	journey->judged.service = set;
	flow_describe(skb, journey, endpoint, hook);
	if (packet->protocol == IPPROTO_TCP ? packet->opens : journey->found == FOUND_NOTHING)
		return JUDGED_SERVICE;
	return JUDGED_STRAY;
}

static __always_inline enum judged_as packet_judge(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
						   const struct endpoint *endpoint, const enum hook hook)
{
	const struct rule *rule = &journey->judgement.rule;
	__u32 service;

	if (packet_needs_no_rule(skb, journey, endpoint, hook))
		return journey->denied || journey->parsed != PARSED_FLOW ? JUDGED_END : JUDGED_LEAVE;
	flow_judge(skb, journey, endpoint, hook);
	service = journey_service(journey, endpoint, hook);
	if (service)
		return service_judge(skb, journey, endpoint, service, hook);
	if (journey->packet.reports_error && packet_is_related(skb, journey, policy, hook) && rule->action != ACTION_ALLOW) {
		journey_allow(journey, REASON_PASS_RELATED);
		return JUDGED_LEAVE;
	}
	if (rule->action == ACTION_ALLOW) {
		journey_allow(journey, journey->judgement.reason);
		if (journey->found == FOUND_NOTHING && !endpoint_tracks(endpoint, journey, hook_direction(hook)))
			return JUDGED_LEAVE;
		return JUDGED_TRACK;
	}
	flow_describe(skb, journey, endpoint, hook);
	if (rule->action != ACTION_DENY)
		return JUDGED_ASK;
	journey_deny(journey, REASON_DROP_POLICY, rule->id);
	return JUDGED_DENY;
}

static __always_inline void enter_stray(struct __sk_buff *skb, const enum hook hook)
{
	if (hook == HOOK_FROM_POD)
		enter_stray_from_pod(skb);
	else
		enter_stray_to_pod(skb);
}

/* The end of a packet that policy does not allow by itself. */
static __always_inline int judged_end(struct __sk_buff *skb, struct journey *journey, enum judged_as as, const enum hook hook)
{
	if (as == JUDGED_ASK)
		enter_ask(skb, hook);
	else if (as == JUDGED_SERVICE && hook == HOOK_FROM_POD)
		enter_choose_backend(skb);
	else if (as == JUDGED_STRAY && hook_is_interface(hook))
		enter_stray(skb, hook);
	else if (!journey_is_dns(journey, hook))
		return deny(skb, &journey->ask, journey->reason);
	else
		enter_dns(skb, hook);
	return deny(skb, &journey->ask, REASON_FAIL_STAGE);
}

static __always_inline int judge_packet(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
					const enum hook hook)
{
	const struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &journey->endpoint);
	struct tracking tracking;
	enum judged_as as;

	if (!endpoint)
		return packet_drop(skb, journey, hook_direction(hook), REASON_DROP_NO_ENDPOINT);
	if (hook == HOOK_TO_POD && journey->found == FOUND_NOTHING && packet_is_proxied(skb))
		journey->judged.path = FLOW_PATH_PROXIED;
	as = packet_judge(skb, journey, policy, endpoint, hook);
	if (as == JUDGED_END)
		return journey->denied ? packet_drop(skb, journey, hook_direction(hook), journey->reason)
				       : packet_pass(skb, journey, journey->reason, hook);
	if (as != JUDGED_LEAVE && as != JUDGED_TRACK)
		return judged_end(skb, journey, as, hook);
	tracking_resume(&tracking, journey, policy);
	if (as == JUDGED_TRACK)
		connection_track(skb, &tracking, &journey->judged, hook_direction(hook));
	return packet_leave(skb, journey, hook, LEAVE_READ);
}

static __always_inline int judge_stage(struct __sk_buff *skb, const enum hook hook)
{
	struct journey *journey = journey_resume(skb, hook);
	struct policy_state *policy = policy_state();

	if (!journey || !policy)	/* not possible */
		return hook_outcome(drop(skb, REASON_FAIL_STAGE), hook);
	return journey_end(journey, judge_packet(skb, journey, policy, hook), hook);
}

SEC("tc")
int judge_from_pod(struct __sk_buff *skb)
{
	return judge_stage(skb, HOOK_FROM_POD);
}

SEC("tc")
int judge_to_pod(struct __sk_buff *skb)
{
	return judge_stage(skb, HOOK_TO_POD);
}

SEC("cgroup_skb/egress")
int judge_sent(struct __sk_buff *skb)
{
	return judge_stage(skb, HOOK_FROM_PROCESS);
}

SEC("cgroup_skb/ingress")
int judge_received(struct __sk_buff *skb)
{
	return judge_stage(skb, HOOK_TO_PROCESS);
}

#endif
