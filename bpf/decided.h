/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the engine decided about a packet's contents travels with the packet: it sends it on with a mark that only this engine
 * knows. A mark of a pod's own does not leave the pod's network namespace.
 */
#ifndef SLUICE_DECIDED_H
#define SLUICE_DECIDED_H

#include "maps.h"

enum decided {
	DECIDED_NOTHING,
	DECIDED_PACKET,		/* passes by itself */
	DECIDED_ALL,		/* passes with what it belongs to */
};

/* Reads the mark of a packet, and takes it off. */
static __always_inline enum decided packet_decided(struct __sk_buff *skb)
{
	__u32 zero = 0, mark = skb->mark;
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);

	if (!engine || !engine->token || (mark != engine->token + MARK_DECIDED && mark != engine->token + MARK_PASSED))
		return DECIDED_NOTHING;
	skb->mark = 0;
	return mark == engine->token + MARK_DECIDED ? DECIDED_ALL : DECIDED_PACKET;
}

/* Whether a packet is the proxy's, and enters here as if the pod had sent it, see from_proxy; reads the mark, and takes it off. */
static __always_inline int packet_is_forwarded(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);

	if (!engine || !engine->token || skb->mark != engine->token + MARK_FORWARDED)
		return 0;
	skb->mark = 0;
	return 1;
}

#endif
