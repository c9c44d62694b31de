/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The stage that holds: a tagged packet without a verdict is copied into the ring of asks and dropped; the engine sends it again
 * once it knows (release). Where nobody can answer, the plugin's failure policy answers at once.
 */
#ifndef SLUICE_HOLD_H
#define SLUICE_HOLD_H

#include "engine.h"
#include "failure.h"
#include "leave.h"

/* A ring record has a constant size, a power of two; these fit a SYN, a packet of a common MTU, and a GSO packet. */
#define HOLD_SMALL 512
#define HOLD_MEDIUM 2048
#define HOLD_LARGE ABI_ASK_PACKET_MAX

/* Copies the packet into a record of its size class. Returns what counts: held, or why not. */
static __always_inline enum reason hold_copy(struct __sk_buff *skb, const struct ask *about, const __u32 size)
{
	struct ask *ask = bpf_ringbuf_reserve(&asks, sizeof(*ask) + size, 0);
	__u64 length = skb->len;

	if (!ask)
		return REASON_FAIL_RING_FULL;
	__builtin_memcpy(ask, about, sizeof(*ask));
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

static __always_inline enum reason hold_packet(struct __sk_buff *skb, const struct ask *about)
{
	if (!skb->len || skb->len > HOLD_LARGE)
		return REASON_FAIL_HOLD;
	if (skb->len <= HOLD_SMALL)
		return hold_copy(skb, about, HOLD_SMALL);
	if (skb->len <= HOLD_MEDIUM)
		return hold_copy(skb, about, HOLD_MEDIUM);
	return hold_copy(skb, about, HOLD_LARGE);
}

/*
 * A packet that cannot be held gets its failure policy. Where that lets a message pass which is read as a whole, the stage that does is
 * told so.
 */
static __always_inline int hold_fail(struct __sk_buff *skb, struct journey *journey, enum reason why)
{
	const struct ask *ask = &journey->ask;
	int egress = ask->direction == DIRECTION_EGRESS;
	int outcome = failure_policy(skb, ask, plugin_find(ask->plugin), why);

	if (outcome == OUTCOME_DROP)
		return outcome;
	journey->failed_open = 1;
	if (ask->context == CONTEXT_TLS && egress)
		enter_hello_from_pod(skb);
	else if (ask->context == CONTEXT_TLS)
		enter_hello_to_pod(skb);
	else if (ask->context == CONTEXT_DNS && egress)
		enter_dns_from_pod(skb);
	else if (ask->context == CONTEXT_DNS)
		enter_dns_to_pod(skb);
	return egress ? packet_go(skb, journey, HOOK_FROM_POD) : packet_go(skb, journey, HOOK_TO_POD);
}

/*
 * The packet is gone either way: held, or failed. A process of this node that sends to a pod would be told of a drop, take the
 * packet for unsent and not believe the pod's answer to the copy: what is held on its way to a pod is therefore sent where nobody
 * listens.
 */
SEC("tc")
int hold(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_POD);	/* or to it: the same record */
	struct engine_state *engine = engine_state();
	enum reason reason;
	struct ask *ask;

	if (!journey || !engine)	/* not possible */
		return drop(skb, REASON_FAIL_HOLD);
	ask = &journey->ask;
	if (ask->direction == DIRECTION_INGRESS && packet_is_proxied(skb))
		ask->flags |= ASK_PROXIED;
	/* The heartbeat may be written by another CPU after time_ns was read: compare without going below zero. */
	if (engine->heartbeat_ns + engine->stale_ns < ask->time_ns)
		return hold_fail(skb, journey, REASON_FAIL_ENGINE_STALE);
	reason = hold_packet(skb, ask);
	if (reason != REASON_HELD)
		return hold_fail(skb, journey, reason);
	count(skb, REASON_HELD);
	return ask->direction == DIRECTION_INGRESS && engine->sink ? bpf_redirect(engine->sink, 0) : OUTCOME_DROP;
}

/*
 * A packet that the engine sends on its own veth, marked with the interface that it was held at and with what was decided
 * (RELEASE_DECIDED, RELEASE_PASSED): sent back there, with the mark that tells the programs so.
 */
SEC("tc")
int release(struct __sk_buff *skb)
{
	__u32 ifindex = skb->mark & ~(RELEASE_DECIDED | RELEASE_PASSED);
	struct engine_state *engine = engine_state();

	/* Of no endpoint: what the node itself sends on any interface that it has, or held for one that is gone. Nobody would read the mark. */
	if (!engine || !bpf_map_lookup_elem(&endpoints, &ifindex))
		return OUTCOME_DROP;
	if (skb->mark & RELEASE_DECIDED)
		skb->mark = engine->token + MARK_DECIDED;
	else
		skb->mark = skb->mark & RELEASE_PASSED ? engine->token + MARK_PASSED : 0;
	return bpf_redirect(ifindex, BPF_F_INGRESS);
}

#endif
