/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Counting: every way that a packet can end has a number. */
#ifndef SLUICE_ACCOUNT_H
#define SLUICE_ACCOUNT_H

#include "maps.h"
#include "packet.h"

/* The same numbers on tcx and in a clsact filter. NEXT leaves the packet to whatever else is attached. */
enum outcome {
	OUTCOME_NEXT = -1,
	OUTCOME_DROP = 2,
};

/* Values that programs on cgroups return. */
#define CGROUP_DENY 0
#define CGROUP_ALLOW 1

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

#endif
