/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What policy says about a flow of an endpoint, without doing anything about it: programs on interfaces, programs on cgroups
 * and `sluice explain` all ask here.
 */
#ifndef SLUICE_JUDGE_H
#define SLUICE_JUDGE_H

#include "names.h"
#include "packet.h"
#include "policy.h"

/* The side that opens a flow: its direction, the other side's address, and the port that it wants. */
struct question {
	const __u8 *peer;
	__u16 port;		/* host order */
	__u8 protocol;
	__u8 direction;		/* enum direction */
	__u8 trusts_node;	/* whether the node's address as peer can be believed */
	__u8 tracked;		/* of a connection that was allowed before */
	__u32 endpoint;		/* its id */
};

struct judgement {
	struct rule rule;
	__u32 rule_set;
	__u32 peer_identity;
	__u32 reason;		/* enum reason: why it passes, or REASON_DROP_POLICY; of no meaning with ACTION_ASK */
};

/* The rule set of a direction: what is provisional counts until somebody should have confirmed it. */
static __always_inline __u32 endpoint_rule_set(const struct endpoint *endpoint, __u8 direction)
{
	int lapsed = endpoint->confirm_by_ns && endpoint->confirm_by_ns <= bpf_ktime_get_ns();

	if (direction == DIRECTION_INGRESS)
		return lapsed ? endpoint->confirmed[DIRECTION_INGRESS] : endpoint->rule_sets[DIRECTION_INGRESS];
	return lapsed ? endpoint->confirmed[DIRECTION_EGRESS] : endpoint->rule_sets[DIRECTION_EGRESS];
}

static __always_inline void endpoint_judge(const struct endpoint *endpoint, const struct question *question,
					   struct judgement *judgement)
{
	judgement->peer_identity = IDENTITY_ANY;
	judgement->rule.id = 0;
	judgement->rule.plugin = 0;
	judgement->rule.context = 0;
	judgement->rule.action = ACTION_ALLOW;
	judgement->rule_set = endpoint_rule_set(endpoint, question->direction);
	if (judgement->rule_set == RULE_SET_NONE) {
		judgement->reason = REASON_PASS_NOT_ISOLATED;
		return;
	}
	judgement->peer_identity = identity_find((const struct address *)question->peer);
	/* "Traffic to and from the node where a pod is running is always allowed" (NetworkPolicy v1). */
	if (judgement->peer_identity == IDENTITY_NODE && question->trusts_node) {
		judgement->reason = REASON_PASS_NODE;
		return;
	}
	judgement->rule.action = ACTION_DENY;
	policy_find(judgement->rule_set, judgement->peer_identity, question->protocol, question->port, &judgement->rule);
	if (question->direction == DIRECTION_EGRESS && (endpoint->flags & ENDPOINT_NAMES)) {
		const struct known_address *known = known_find(question->endpoint, question->peer);

		if (known)
			names_find(known, judgement->rule_set, judgement->peer_identity,
				   question->port | question->protocol << NAMED_PROTOCOL_SHIFT |
					   question->tracked << NAMED_TRACKED_SHIFT,
				   &judgement->rule);
	}
	judgement->reason = judgement->rule.action == ACTION_ALLOW ? REASON_PASS_POLICY : REASON_DROP_POLICY;
}

#endif
