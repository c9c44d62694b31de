/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Saying what a flow is: to the engine that decides about it (struct ask), and to people (struct flow_record). */
#ifndef SLUICE_DESCRIBE_H
#define SLUICE_DESCRIBE_H

#include "journey.h"

/* Fills in the ask of a journey, as its packet was judged; name is the hash of the name that it is about, or 0. */
static __always_inline struct ask *ask_fill(struct journey *journey, const struct endpoint *endpoint, enum direction direction,
					    __u64 name)
{
	const struct judgement *judgement = &journey->judgement;
	const struct packet *packet = &journey->packet;
	int egress = direction == DIRECTION_EGRESS;
	struct ask *ask = &journey->ask;

	__builtin_memset(ask, 0, sizeof(*ask));
	ask->time_ns = bpf_ktime_get_ns();
	ask->name = name;
	__builtin_memcpy(ask->source, packet->source, 16);
	__builtin_memcpy(ask->destination, packet->destination, 16);
	ask->source_identity = egress ? endpoint->identity : judgement->peer_identity;
	ask->destination_identity = egress ? judgement->peer_identity : endpoint->identity;
	ask->endpoint = journey->endpoint;
	ask->rule = judgement->rule.id;
	ask->plugin = judgement->rule.plugin;
	ask->source_port = packet->source_port;
	ask->destination_port = packet->destination_port;
	ask->protocol = packet->protocol;
	ask->direction = direction;
	ask->context = judgement->rule.context;
	return ask;
}

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

/*
 * Leaves a record of what became of a flow. Nobody is woken: the engine reads when it has time, and what does not fit is counted
 * as lost.
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
