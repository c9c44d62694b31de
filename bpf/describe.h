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
	ask->service = journey->judged.service;
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

/* Records of one reason that one endpoint may leave in a second: a tenth of the ring, which is read ten times a second. */
#define RECORDS_SHARE 1024
/*
 * Of these the first may fill the ring, the others half of it: several that flood have the others' records written all the same. The
 * half has room for those of 340 endpoints and reasons.
 */
#define RECORDS_SURE 16

static __always_inline int records_are_many(void)
{
	return bpf_ringbuf_query(&flow_records, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&flow_records, BPF_RB_RING_SIZE) / 2;
}

/* Whether the endpoint may leave one more record, and counts one that it may not. The window is about right: CPUs may both begin it. */
static __always_inline int record_share_take(__u32 endpoint, __u32 reason)
{
	struct record_key key = { .endpoint = endpoint, .reason = reason };
	struct record_share *share, first = { .records = 1 };
	__u64 now_ns = bpf_ktime_get_coarse_ns();

	share = bpf_map_lookup_elem(&record_shares, &key);
	if (!share) {
		first.window_ns = now_ns;
		bpf_map_update_elem(&record_shares, &key, &first, BPF_NOEXIST);
		return 1;
	}
	if (now_ns - share->window_ns > SECOND_NS) {
		share->window_ns = now_ns;
		share->records = 0;
	}
	if (share->records >= RECORDS_SHARE || (share->records >= RECORDS_SURE && records_are_many())) {
		count_bytes(REASON_FAIL_RECORD_SHARE, 0);
		return 0;
	}
	__sync_fetch_and_add(&share->records, 1);
	return 1;
}

/* Room for a record; NULL where there is none, and that is counted. */
static __always_inline struct flow_record *record_reserve(void)
{
	struct flow_record *record = bpf_ringbuf_reserve(&flow_records, sizeof(*record), 0);

	if (!record)
		count_bytes(REASON_FAIL_RECORD_LOST, 0);
	return record;
}

/*
 * Leaves a record of what became of a flow that was described. Nobody is woken: the engine reads when it has time. Global, as
 * packet_parse.
 */
__noinline int flow_record_write(const struct ask *ask, __u32 verdict, __u32 reason)
{
	struct flow_record *record;

	if (!ask || !record_share_take(ask->endpoint, reason))
		return 0;
	record = record_reserve();
	if (!record)
		return 0;
	record->time_ns = ask->time_ns;
	record->name = ask->name;
	__builtin_memcpy(record->source, ask->source, 16);
	__builtin_memcpy(record->destination, ask->destination, 16);
	record->source_identity = ask->source_identity;
	record->destination_identity = ask->destination_identity;
	record->endpoint = ask->endpoint;
	record->rule = ask->rule;
	record->plugin = ask->plugin;
	record->service = ask->service;
	record->source_port = ask->source_port;
	record->destination_port = ask->destination_port;
	record->protocol = ask->protocol;
	record->direction = ask->direction;
	record->verdict = verdict;
	record->reason = reason;
	record->parsed = PARSED_FLOW;
	__builtin_memset(record->pad, 0, sizeof(record->pad));
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Leaves a record of a packet that is dropped before its flow was described: with what is known of it. Global, as packet_parse. */
__noinline int packet_record_write(struct journey *journey, __u32 direction, __u32 reason)
{
	int egress = direction == DIRECTION_EGRESS;
	const struct endpoint *endpoint;
	struct flow_record *record;
	__u32 own = 0, peer = 0, id;
	const struct packet *packet;

	if (!journey || !record_share_take(journey->endpoint, reason))
		return 0;
	packet = &journey->packet;
	id = journey->endpoint;
	endpoint = bpf_map_lookup_elem(&endpoints, &id);
	if (endpoint)
		own = endpoint->identity;
	/* An address that was not read belongs to nobody. */
	if (!address_is_unspecified(egress ? packet->destination : packet->source))
		peer = identity_find((const struct address *)(egress ? packet->destination : packet->source));
	record = record_reserve();
	if (!record)
		return 0;
	record->time_ns = bpf_ktime_get_ns();
	record->name = 0;
	__builtin_memcpy(record->source, packet->source, 16);
	__builtin_memcpy(record->destination, packet->destination, 16);
	record->source_identity = egress ? own : peer;
	record->destination_identity = egress ? peer : own;
	record->endpoint = id;
	record->rule = journey->rule;
	record->plugin = 0;
	record->service = journey->judged.service;
	record->source_port = packet->source_port;
	record->destination_port = packet->destination_port;
	record->protocol = packet->protocol;
	record->direction = direction;
	record->verdict = VERDICT_DENY;
	record->reason = reason;
	record->parsed = journey->parsed;
	__builtin_memset(record->pad, 0, sizeof(record->pad));
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Leaves a record of what is denied unread: nothing is known but whose it is. */
static __always_inline void unread_record_write(__u32 endpoint, enum direction direction, enum reason reason)
{
	struct flow_record *record;

	if (!record_share_take(endpoint, reason))
		return;
	record = record_reserve();
	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	record->time_ns = bpf_ktime_get_ns();
	record->endpoint = endpoint;
	record->direction = direction;
	record->verdict = VERDICT_DENY;
	record->reason = reason;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* Drops a packet whose flow was described. */
static __always_inline int deny(struct __sk_buff *skb, const struct ask *ask, enum reason reason)
{
	flow_record_write(ask, VERDICT_DENY, reason);
	return drop(skb, reason);
}

/* Drops any other. */
static __always_inline int packet_drop(struct __sk_buff *skb, struct journey *journey, enum direction direction, enum reason reason)
{
	packet_record_write(journey, direction, reason);
	return drop(skb, reason);
}

#endif
