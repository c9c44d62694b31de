/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Asking: a tagged packet without a verdict is copied into the ring of asks and dropped; the engine sends it again
 * once it knows. Where nobody can answer, the plugin's failure policy answers at once.
 */
#ifndef SLUICE_HOLD_H
#define SLUICE_HOLD_H

#include "counters.h"
#include "maps.h"

/* A ring record has a constant size, a power of two; these fit a SYN, a packet of a common MTU, and a GSO packet. */
#define HOLD_SMALL 512
#define HOLD_MEDIUM 2048
#define HOLD_LARGE ABI_ASK_PACKET_MAX

/* Notes where the packet's headers are, and what is not among its bytes. */
static __always_inline void ask_fill_packet(struct ask *ask, struct __sk_buff *skb, const struct packet *packet)
{
	ask->gso_size = skb->gso_size;
	ask->network_offset = packet->network_offset;
	ask->transport_offset = packet->transport_offset;
	if (skb->vlan_present) {
		ask->flags |= ASK_VLAN;
		ask->vlan_tci = skb->vlan_tci;
		ask->vlan_protocol = skb->vlan_proto;
	}
}

/* Whether a tagged flow passes that nobody can answer for. */
static __always_inline int failure_allows(const struct ask *ask, const struct plugin_state *plugin, enum reason why, __u32 bytes)
{
	int allow = plugin && plugin->failure == VERDICT_ALLOW;

	count_bytes(why, bytes);
	flow_record_write(ask, allow ? VERDICT_ALLOW : VERDICT_DENY, why);
	count_bytes(allow ? REASON_PASS_FAILURE_POLICY : REASON_DROP_FAILURE_POLICY, bytes);
	return allow;
}

/* The same for a packet. */
static __always_inline int failure_policy(struct __sk_buff *skb, const struct ask *ask,
					  const struct plugin_state *plugin, enum reason why)
{
	return failure_allows(ask, plugin, why, skb->len) ? OUTCOME_NEXT : OUTCOME_DROP;
}

/* Copies the packet into a record of its size class. Returns what counts: held, or why not. */
static __always_inline enum reason hold_copy(struct __sk_buff *skb, const struct ask *question, const __u32 size)
{
	struct ask *ask = bpf_ringbuf_reserve(&asks, sizeof(*ask) + size, 0);
	__u64 length = skb->len;

	if (!ask)
		return REASON_FAIL_RING_FULL;
	__builtin_memcpy(ask, question, sizeof(*ask));
	/* The caller knows that it is 1 to size; this says so in a form that every verifier since 6.1 follows. */
	length -= 1;
	asm volatile("" : "+r"(length));
	length &= size - 1;
	asm volatile("" : "+r"(length));
	length += 1;
	if (bpf_skb_load_bytes(skb, 0, ask + 1, length)) {
		bpf_ringbuf_discard(ask, BPF_RB_NO_WAKEUP);
		return REASON_FAIL_HOLD;
	}
	ask->length = length;
	bpf_ringbuf_submit(ask, 0);
	return REASON_HELD;
}

static __always_inline enum reason hold_packet(struct __sk_buff *skb, const struct ask *question)
{
	if (!skb->len || skb->len > HOLD_LARGE)
		return REASON_FAIL_HOLD;
	if (skb->len <= HOLD_SMALL)
		return hold_copy(skb, question, HOLD_SMALL);
	if (skb->len <= HOLD_MEDIUM)
		return hold_copy(skb, question, HOLD_MEDIUM);
	return hold_copy(skb, question, HOLD_LARGE);
}

#endif
