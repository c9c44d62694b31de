/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Counting: every way that a packet can end has a number, and a denied flow leaves a record. */
#ifndef SLUICE_COUNTERS_H
#define SLUICE_COUNTERS_H

#include "maps.h"
#include "packet.h"

/* The same numbers on tcx and in a clsact filter. NEXT leaves the packet to whatever else is attached. */
enum outcome {
	OUTCOME_NEXT = -1,
	OUTCOME_DROP = 2,
};

static __always_inline void count_bytes(enum reason reason, __u32 bytes)
{
	__u32 key = reason;
	struct counter *counter = bpf_map_lookup_elem(&counters, &key);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

static __always_inline void count(struct __sk_buff *skb, enum reason reason)
{
	count_bytes(reason, skb->len);
}

static __always_inline int pass(struct __sk_buff *skb, enum reason reason)
{
	count(skb, reason);
	return OUTCOME_NEXT;
}

static __always_inline int drop(struct __sk_buff *skb, enum reason reason)
{
	count(skb, reason);
	return OUTCOME_DROP;
}

/*
 * Leaves a record of a flow that did not pass. Nobody is woken: the engine reads when it has time, and what does not
 * fit is counted as lost.
 */
static __always_inline void flow_record_write(const struct ask *ask, enum verdict verdict, enum reason reason)
{
	struct flow_record *record = bpf_ringbuf_reserve(&flow_records, sizeof(*record), 0);

	if (!record) {
		count_bytes(REASON_FAIL_RECORD_LOST, 0);
		return;
	}
	record->time_ns = ask->time_ns;
	record->name = ask->name;
	__builtin_memcpy(record->source, ask->source, 16);
	__builtin_memcpy(record->destination, ask->destination, 16);
	record->source_identity = ask->source_identity;
	record->destination_identity = ask->destination_identity;
	record->endpoint = ask->endpoint;
	record->rule = ask->rule;
	record->plugin = ask->plugin;
	record->source_port = ask->source_port;
	record->destination_port = ask->destination_port;
	record->protocol = ask->protocol;
	record->direction = ask->direction;
	record->verdict = verdict;
	record->reason = reason;
	__builtin_memset(record->pad, 0, sizeof(record->pad));
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

static __always_inline int deny(struct __sk_buff *skb, const struct ask *ask, enum reason reason)
{
	flow_record_write(ask, VERDICT_DENY, reason);
	return drop(skb, reason);
}

#endif
