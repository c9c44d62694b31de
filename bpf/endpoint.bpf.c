/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The programs of pods, and of `sluice explain`.
 *
 * from_pod stands at the tc ingress of the host side of a pod's veth, to_pod at its egress; they are the same program
 * but for the direction. hold is reached through hold_stage, which is open only while an engine lives. release stands
 * at the egress of the engine's own veth and sends a held packet back to the interface that it came from. The programs of
 * processes are in cgroup.h, those about HTTP requests and the engine's proxy in requests.h.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"
#include "cgroup.h"
#include "endpoint.h"
#include "decided.h"
#include "hello.h"
#include "learn.h"
#include "query.h"
#include "requests.h"

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	/* A mark of the pod's own is gone here. */
	if (skb->mark && packet_is_forwarded(skb)) {
		bpf_skb_change_type(skb, PACKET_TYPE_HOST);
		return pass(skb, REASON_PASS_FORWARDED);
	}
	return endpoint_packet(skb, skb->ifindex, DIRECTION_EGRESS, PLACE_INTERFACE);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return endpoint_packet(skb, skb->ifindex, DIRECTION_INGRESS, PLACE_INTERFACE);
}

/*
 * What cannot be held gets its failure policy. Where that lets a message pass which is read as a whole, the program that does is
 * told so.
 */
static __always_inline int hold_fail(struct __sk_buff *skb, const struct ask *question, enum reason why)
{
	int outcome = failure_policy(skb, question, plugin_find(question->plugin), why);

	if (outcome == OUTCOME_NEXT) {
		skb->cb[3] = 1;
		if (question->context == CONTEXT_TLS)
			bpf_tail_call(skb, &pod_hello, question->direction);
		else if (question->context == CONTEXT_DNS)
			bpf_tail_call(skb, &pod_dns, question->direction);
	}
	return outcome;
}

/*
 * Entered by tail call with the question of this CPU filled in. The packet is gone either way: held, or failed. A process of this
 * node that sends to a pod would be told of a drop, take the packet for unsent and not believe the pod's answer to the copy: what
 * is held on its way to a pod is therefore sent where nobody listens.
 */
SEC("tc")
int hold(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct ask *question = bpf_map_lookup_elem(&questions, &zero);
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);
	enum reason reason;

	if (!question || !engine)
		return drop(skb, REASON_FAIL_HOLD);
	if (question->direction == DIRECTION_INGRESS && packet_is_proxied(skb, &zero))
		question->flags |= ASK_PROXIED;
	/* The heartbeat may be written by another CPU after time_ns was read: compare without going below zero. */
	if (engine->heartbeat_ns + engine->stale_ns < question->time_ns)
		return hold_fail(skb, question, REASON_FAIL_ENGINE_STALE);
	reason = hold_packet(skb, question);
	if (reason != REASON_HELD)
		return hold_fail(skb, question, reason);
	count(skb, REASON_HELD);
	return question->direction == DIRECTION_INGRESS && engine->sink ? bpf_redirect(engine->sink, 0) : OUTCOME_DROP;
}

/*
 * A packet that the engine sends on its own veth, marked with the interface that it was held at and with what was decided
 * (RELEASE_DECIDED, RELEASE_PASSED).
 */
SEC("tc")
int release(struct __sk_buff *skb)
{
	__u32 zero = 0, ifindex = skb->mark & ~(RELEASE_DECIDED | RELEASE_PASSED);
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);

	if (!ifindex || !engine)
		return OUTCOME_DROP;
	if (skb->mark & RELEASE_DECIDED)
		skb->mark = engine->token + MARK_DECIDED;
	else
		skb->mark = skb->mark & RELEASE_PASSED ? engine->token + MARK_PASSED : 0;
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
