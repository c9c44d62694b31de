/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The programs of pods, and of `sluice explain`.
 *
 * from_pod stands at the tc ingress of the host side of a pod's veth, to_pod at its egress; they are the same program
 * but for the direction. hold is reached through hold_stage, which is open only while an engine lives. release stands
 * at the egress of the engine's own veth and sends a held packet back to the interface that it came from. The programs of
 * processes are in cgroup.h.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"
#include "cgroup.h"
#include "endpoint.h"
#include "learn.h"
#include "query.h"

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return endpoint_packet(skb, skb->ifindex, DIRECTION_EGRESS, PLACE_INTERFACE);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return endpoint_packet(skb, skb->ifindex, DIRECTION_INGRESS, PLACE_INTERFACE);
}

/* Entered by tail call with the question of this CPU filled in. The packet is dropped either way: held, or failed. */
SEC("tc")
int hold(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct ask *question = bpf_map_lookup_elem(&questions, &zero);
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);
	struct plugin_state *plugin;
	enum reason reason;

	if (!question || !engine)
		return drop(skb, REASON_FAIL_HOLD);
	plugin = plugin_find(question->plugin);
	/* The heartbeat may be written by another CPU after time_ns was read: compare without going below zero. */
	if (engine->heartbeat_ns + engine->stale_ns < question->time_ns)
		return failure_policy(skb, question, plugin, REASON_FAIL_ENGINE_STALE);
	reason = hold_packet(skb, question);
	if (reason != REASON_HELD)
		return failure_policy(skb, question, plugin, reason);
	return drop(skb, REASON_HELD);
}

/* A packet that the engine sends on its own veth, marked with the interface that it was held at. */
SEC("tc")
int release(struct __sk_buff *skb)
{
	__u32 ifindex = skb->mark;

	if (!ifindex)
		return OUTCOME_DROP;
	skb->mark = 0;
	return bpf_redirect(ifindex, BPF_F_INGRESS);
}

/*
 * Never attached: what the endpoint in skb->mark, asked about this packet in the direction in cb[0], would do, and why.
 * Nothing is tracked, counted or held. Answers in cb: reason, rule set, peer identity, rule, action. Returns 0, or 1 when
 * there is no such endpoint or flow.
 */
SEC("tc")
int explain(struct __sk_buff *skb)
{
	__u32 id = skb->mark;
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &id);
	struct packet packet = {};
	struct judgement judgement = {};
	struct question question = { .trusts_node = 1 };

	if (!endpoint || packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW)
		return 1;
	question.direction = skb->cb[0] ? DIRECTION_EGRESS : DIRECTION_INGRESS;
	question.peer = question.direction == DIRECTION_EGRESS ? packet.destination : packet.source;
	question.port = bpf_ntohs(packet.destination_port);
	question.protocol = packet.protocol;
	question.endpoint = id;
	endpoint_judge(endpoint, &question, &judgement);
	skb->cb[0] = judgement.reason;
	skb->cb[1] = judgement.rule_set;
	skb->cb[2] = judgement.peer_identity;
	skb->cb[3] = judgement.rule.id;
	skb->cb[4] = judgement.rule.action;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
