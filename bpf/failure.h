/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A tagged flow that nobody can decide about is decided by its plugin's failure policy, at once. */
#ifndef SLUICE_FAILURE_H
#define SLUICE_FAILURE_H

#include "describe.h"
#include "plugin.h"

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

#endif
