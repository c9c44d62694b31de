/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The judgement of policy about a flow of an endpoint, without doing anything about it: programs on interfaces, programs on cgroups
 * and `sluice explain` all ask here.
 */
#ifndef SLUICE_JUDGEMENT_H
#define SLUICE_JUDGEMENT_H

#include "dns-names.h"
#include "packet.h"
#include "policy.h"

/* A flow as policy looks at it: from the side that opens it. */
struct flow {
	const __u8 *peer;	/* address of the other side */
	__u16 port;		/* that is wanted of whom it is opened to; host order */
	__u8 protocol;
	__u8 direction;		/* enum direction: of who opens it */
	__u8 trusts_node;	/* whether an address of the node as peer can be believed */
	__u8 tracked;		/* of a connection that was allowed before */
	__u32 endpoint;		/* its id */
};

/* The flow that an endpoint opens to an address. The port is in network order, as everywhere outside of policy. */
static __always_inline void flow_to(struct flow *flow, __u32 endpoint, const __u8 *peer, __be16 port, __u8 protocol)
{
	flow->peer = peer;
	flow->port = bpf_ntohs(port);
	flow->protocol = protocol;
	flow->direction = DIRECTION_EGRESS;
	flow->trusts_node = 1;
	flow->tracked = 0;
	flow->endpoint = endpoint;
}

/* The flow that a packet belongs to; an answer is of one that was opened the other way. */
static __always_inline void flow_of_packet(struct flow *flow, const struct packet *packet, __u32 endpoint,
					   enum direction direction, int answer)
{
	int egress = direction == DIRECTION_EGRESS;

	flow_to(flow, endpoint, egress ? packet->destination : packet->source,
		answer ? packet->source_port : packet->destination_port, packet->protocol);
	flow->direction = answer == egress ? DIRECTION_INGRESS : DIRECTION_EGRESS;
	flow->tracked = 0;
}

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

/*
 * Whether no policy is about a flow, for its peer is the endpoint's node. "Traffic to and from the node where a Pod is running is always
 * allowed" (NetworkPolicy v1) means what a pod receives: what it sends there is policy like any other. A process is on the node, whose
 * addresses are its own.
 */
static __always_inline int flow_is_of_node(const struct flow *flow)
{
	if (!flow->trusts_node || (flow->direction == DIRECTION_EGRESS && flow->endpoint < ENDPOINT_ID_CGROUP))
		return 0;
	return bpf_map_lookup_elem(&node_addresses, flow->peer) != NULL;
}

static __always_inline void endpoint_judge(const struct endpoint *endpoint, const struct flow *flow,
					   struct judgement *judgement)
{
	judgement->peer_identity = IDENTITY_ANY;
	judgement->rule.id = 0;
	judgement->rule.plugin = 0;
	judgement->rule.context = 0;
	judgement->rule.action = ACTION_ALLOW;
	judgement->rule_set = endpoint_rule_set(endpoint, flow->direction);
	if (judgement->rule_set == RULE_SET_NONE) {
		judgement->reason = REASON_PASS_NOT_ISOLATED;
		return;
	}
	judgement->peer_identity = identity_find((const struct address *)flow->peer);
	if (flow_is_of_node(flow)) {
		judgement->reason = REASON_PASS_NODE;
		return;
	}
	judgement->rule.action = ACTION_DENY;
	policy_find(judgement->rule_set, judgement->peer_identity, flow->protocol, flow->port, &judgement->rule);
	if (flow->direction == DIRECTION_EGRESS && (endpoint->flags & ENDPOINT_NAMES)) {
		const struct known_address *known = known_find(flow->endpoint, flow->peer);

		if (known)
			names_find(known, judgement->rule_set, judgement->peer_identity,
				   flow->port | flow->protocol << NAMED_PROTOCOL_SHIFT |
					   flow->tracked << NAMED_TRACKED_SHIFT,
				   &judgement->rule);
	}
	judgement->reason = judgement->rule.action == ACTION_ALLOW ? REASON_PASS_POLICY : REASON_DROP_POLICY;
}

#endif
