/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The engine as packets meet it: what it sends, and how they come to its proxy.
 *
 * Its decision about a packet's contents travels with the packet: it sends it on with a mark that only this engine
 * knows. A mark of a pod's own does not leave the pod's network namespace. The mark is taken off where the packet enters, also
 * one that needs no decision by now: at the next endpoint it would be a decision about what that one receives.
 */
#ifndef SLUICE_ENGINE_H
#define SLUICE_ENGINE_H

#include "describe.h"

enum decided {
	DECIDED_NOTHING,
	DECIDED_PACKET,		/* passes by itself */
	DECIDED_ALL,		/* passes with what it belongs to */
};

/* Reads the mark of a packet, and takes it off. */
static __always_inline enum decided packet_decided(struct __sk_buff *skb)
{
	struct engine_state *engine = engine_state();
	__u32 mark = skb->mark;

	if (!engine || !engine->token || (mark != engine->token + MARK_DECIDED && mark != engine->token + MARK_PASSED))
		return DECIDED_NOTHING;
	skb->mark = 0;
	return mark == engine->token + MARK_DECIDED ? DECIDED_ALL : DECIDED_PACKET;
}

/* Whether a packet is the proxy's, and enters here as if the pod had sent it, see from_proxy; reads the mark, and takes it off. */
static __always_inline int packet_is_forwarded(struct __sk_buff *skb)
{
	struct engine_state *engine = engine_state();

	if (!engine || !engine->token || skb->mark != engine->token + MARK_FORWARDED)
		return 0;
	skb->mark = 0;
	return 1;
}

/* Whether a packet is what the chain itself answers a pod, see refuse.h; reads the mark, and takes it off. */
static __always_inline int packet_is_refusal(struct __sk_buff *skb)
{
	struct engine_state *engine = engine_state();

	if (!engine || !engine->token || skb->mark != engine->token + MARK_REFUSAL)
		return 0;
	skb->mark = 0;
	return 1;
}

/* Whether a packet comes from the engine's proxy. */
static __always_inline int packet_is_proxied(struct __sk_buff *skb)
{
	struct engine_state *engine = engine_state();

	return engine && engine->proxy && (skb->ingress_ifindex == engine->proxy || skb->mark == engine->token + MARK_PROXIED);
}

/* Hands a packet from a pod to the engine's proxy, in whose network everything is local. */
static __always_inline int proxy_send(struct __sk_buff *skb, struct journey *journey, enum reason reason)
{
	struct engine_state *engine = engine_state();

	if (!engine || !engine->proxy)
		return packet_drop(skb, journey, DIRECTION_EGRESS, REASON_FAIL_PROXY_ABSENT);
	count(skb, reason);
	return bpf_redirect_peer(engine->proxy, 0);
}

#endif
