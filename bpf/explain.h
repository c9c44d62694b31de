/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The kernel's decision about a flow, and why, without the flow: run by the engine, never attached. */
#ifndef SLUICE_EXPLAIN_H
#define SLUICE_EXPLAIN_H

#include "judgement.h"

/*
 * The decision of the endpoint in mark about this packet in the direction in priority. Nothing is tracked, counted or held, and
 * the record of journeys is not touched: packets may come in between. Answers in the words of cb that enum explanation names. Returns
 * 0, or 1 when there is no such endpoint or flow.
 */
SEC("tc")
int explain(struct __sk_buff *skb)
{
	__u32 id = skb->mark;
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &id);
	struct packet packet = {};
	struct judgement judgement = {};
	struct flow flow;

	if (!endpoint || packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW)
		return 1;
	if (skb->priority == DIRECTION_EGRESS)
		flow_of_packet(&flow, &packet, id, DIRECTION_EGRESS, 0);
	else
		flow_of_packet(&flow, &packet, id, DIRECTION_INGRESS, 0);
	endpoint_judge(endpoint, &flow, &judgement);
	skb->cb[EXPLANATION_REASON] = judgement.reason;
	skb->cb[EXPLANATION_RULE_SET] = judgement.rule_set;
	skb->cb[EXPLANATION_PEER_IDENTITY] = judgement.peer_identity;
	skb->cb[EXPLANATION_RULE] = judgement.rule.id;
	skb->cb[EXPLANATION_ACTION] = judgement.rule.action;
	return 0;
}

#endif
