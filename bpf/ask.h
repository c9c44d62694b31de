/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The stage that finds out what a plugin says of a tagged flow: it has decided before, or somebody is to be asked, or nobody can be.
 *
 * The needs of the rule's context decide where the packet goes: connections to the engine as they open, TLS when its client has
 * spoken, HTTP to the proxy.
 */
#ifndef SLUICE_ASK_H
#define SLUICE_ASK_H

#include "failure.h"
#include "judge.h"
#include "verdict.h"

/* The next step for a packet under a rule that asks; the reason for it is in its journey. */
enum asked {
	ASKED_TRACK,		/* it passes, and its connection with it */
	ASKED_LEAVE,		/* it passes by itself */
	ASKED_DENY,
	ASKED_ROUTE,		/* it goes to a backend of a set */
	ASKED_NOBODY,		/* nobody can be asked */
	ASKED_ENGINE,		/* the engine is to be asked */
};

/* Whether the packet is under a rule about requests, whose packets the proxy's stages know what to do with. */
static __always_inline int journey_is_requests(const struct journey *journey, const enum hook hook)
{
	return hook_is_interface(hook) && journey->ask.context == CONTEXT_HTTP;
}

static __always_inline enum asked asked_allow(struct journey *journey, enum reason reason)
{
	journey_allow(journey, reason);
	return ASKED_TRACK;
}

static __always_inline enum asked asked_deny(struct journey *journey, enum reason reason)
{
	journey_deny(journey, reason, journey->ask.rule);
	return ASKED_DENY;
}

static __always_inline enum asked asked_nobody(struct journey *journey, enum reason why)
{
	journey_deny(journey, why, journey->ask.rule);
	return ASKED_NOBODY;
}

/* Whether the plugin has answered the same about the same peer, when the connection was judged before. */
static __always_inline int connection_was_asked(const struct connection *connection, const struct judged *judged)
{
	return connection && connection->plugin == judged->plugin && connection->context == judged->context &&
	       connection->peer_identity == judged->peer_identity &&
	       (connection->epoch == judged->epoch || (connection->flags & CONNECTION_READ) || judged->context == CONTEXT_HTTP);
}

/* A packet that begins a connection whose client's first words decide. */
static __always_inline enum asked ask_hello(struct journey *journey)
{
	if (journey->packet.protocol != IPPROTO_TCP)
		return asked_deny(journey, REASON_DROP_QUIC);
	if (journey->packet.opens && journey->packet.data)
		return asked_deny(journey, REASON_DROP_EARLY_DATA);
	journey->judged.unread = 1;
	return asked_allow(journey, REASON_PASS_POLICY);
}

/* Goes by what the plugin said before. */
static __always_inline enum asked ask_cache(struct __sk_buff *skb, struct journey *journey, const struct plugin_state *plugin,
					    const enum hook hook)
{
	switch (verdict_find(journey, plugin, journey->now_ns, skb->len)) {
	case VERDICT_ALLOW:
		return asked_allow(journey, REASON_PASS_VERDICT);
	case VERDICT_DENY:
		return asked_deny(journey, REASON_DROP_VERDICT);
	case VERDICT_ROUTE:
		return ASKED_ROUTE;
	default:
		return hook_is_interface(hook) ? ASKED_ENGINE : asked_nobody(journey, REASON_FAIL_CANNOT_HOLD);
	}
}

static __always_inline enum asked ask_plugin(struct __sk_buff *skb, struct journey *journey, const struct connection *connection,
					     const enum hook hook)
{
	const struct plugin_state *plugin = plugin_find(journey->ask.plugin);
	enum reason known = journey->answer ? REASON_PASS_REPLY : REASON_PASS_ESTABLISHED;
	struct judged *judged = &journey->judged;

	/* Whatever the proxy goes by, it knows. */
	if (journey_is_requests(journey, hook) && (judged->path & FLOW_PATH_PROXIED))
		return asked_allow(journey, known);
	judged->plugin = journey->ask.plugin;
	judged->epoch = plugin ? plugin->epoch : 0;
	judged->context = journey->ask.context;
	if (!plugin_is_on(plugin))
		return asked_nobody(journey, REASON_FAIL_PLUGIN_OFF);
	if (connection_was_asked(connection, judged)) {
		judged->unread = connection->flags & (CONNECTION_UNREAD | CONNECTION_READ);
		return asked_allow(journey, known);
	}
	if (journey->answer) {	/* the plugin is asked about packets of the side that opened the connection */
		journey_allow(journey, REASON_PASS_REPLY);
		return ASKED_LEAVE;
	}
	if (judged->context == CONTEXT_TLS && hook_is_interface(hook))
		return ask_hello(journey);
	if (journey_is_requests(journey, hook) && !journey->packet.opens)
		return asked_deny(journey, REASON_DROP_NOT_PROXIED);
	return ask_cache(skb, journey, plugin, hook);
}

/* Tracks the connection of a packet that passes, where it may begin one. */
static __always_inline void ask_track(struct __sk_buff *skb, struct journey *journey, struct tracking *tracking, const enum hook hook)
{
	const struct endpoint *endpoint = NULL;

	if (!tracking->connection) {
		endpoint = bpf_map_lookup_elem(&endpoints, &journey->endpoint);
		if (!endpoint || !endpoint_tracks(endpoint, journey, hook_direction(hook)))
			return;
	}
	connection_track(skb, tracking, &journey->judged, hook_direction(hook));
}

/* Leaves a packet under a rule about requests to the stages that are for those; returns where they are not there. */
static __always_inline void ask_enter_requests(struct __sk_buff *skb, struct journey *journey, enum asked asked)
{
	if (asked == ASKED_DENY)
		enter_refuse(skb);
	if (asked == ASKED_ROUTE)
		enter_route(skb);
	if (asked == ASKED_ENGINE) {
		enter_to_proxy(skb);
		journey_deny(journey, REASON_FAIL_PROXY_ABSENT, journey->ask.rule);
	}
	if (asked == ASKED_ENGINE || asked == ASKED_NOBODY)
		enter_undecided(skb);
}

static __always_inline void ask_enter(struct __sk_buff *skb, struct journey *journey, enum asked asked)
{
	if (journey->ask.context == CONTEXT_HTTP) {
		ask_enter_requests(skb, journey, asked);
	} else if (asked == ASKED_ENGINE) {
		enter_hold(skb);
		journey_deny(journey, REASON_FAIL_ENGINE_ABSENT, journey->ask.rule);
	}
}

/* The end of a packet that does not pass at once. Only what an interface sees can be held, or goes by another path. */
static __always_inline int ask_end(struct __sk_buff *skb, struct journey *journey, enum asked asked, const enum hook hook)
{
	int outcome;

	if (hook_is_interface(hook))
		ask_enter(skb, journey, asked);
	if (asked == ASKED_DENY)
		return deny(skb, &journey->ask, journey->reason);
	if (asked == ASKED_ROUTE)
		return deny(skb, &journey->ask, REASON_DROP_NO_BACKEND);
	outcome = failure_policy(skb, &journey->ask, plugin_find(journey->ask.plugin), journey->reason);
	return outcome == OUTCOME_NEXT ? packet_go(skb, journey, hook) : outcome;
}

static __always_inline int ask_packet(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
				      const enum hook hook)
{
	struct tracking tracking;
	enum asked asked;

	if (hook == HOOK_FROM_PROCESS && !journey->answer && journey->ask.context == CONTEXT_HTTP) {
		enter_connected(skb);
		return deny(skb, &journey->ask, REASON_FAIL_STAGE);
	}
	tracking_resume(&tracking, journey, policy);
	asked = ask_plugin(skb, journey, tracking.connection, hook);
	if (asked == ASKED_TRACK)
		ask_track(skb, journey, &tracking, hook);
	if (asked == ASKED_TRACK || asked == ASKED_LEAVE)
		return packet_leave(skb, journey, hook, LEAVE_UNREAD);
	return ask_end(skb, journey, asked, hook);
}

static __always_inline int ask_stage(struct __sk_buff *skb, const enum hook hook)
{
	struct journey *journey = journey_resume(skb, hook);
	struct policy_state *policy = policy_state();

	if (!journey || !policy)	/* not possible */
		return hook_outcome(drop(skb, REASON_FAIL_STAGE), hook);
	return journey_end(journey, ask_packet(skb, journey, policy, hook), hook);
}

SEC("tc")
int ask_from_pod(struct __sk_buff *skb)
{
	return ask_stage(skb, HOOK_FROM_POD);
}

SEC("tc")
int ask_to_pod(struct __sk_buff *skb)
{
	return ask_stage(skb, HOOK_TO_POD);
}

SEC("cgroup_skb/egress")
int ask_sent(struct __sk_buff *skb)
{
	return ask_stage(skb, HOOK_FROM_PROCESS);
}

SEC("cgroup_skb/ingress")
int ask_received(struct __sk_buff *skb)
{
	return ask_stage(skb, HOOK_TO_PROCESS);
}

#endif
