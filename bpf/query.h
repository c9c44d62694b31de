/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What endpoints send to resolvers, where names decide or a plugin sees the answers.
 *
 * A query to a trusted resolver is noted, with its name, so that its answer can teach. One about a name without a rule is
 * refused at once, where that is wanted or nothing else allows it.
 */
#ifndef SLUICE_QUERY_H
#define SLUICE_QUERY_H

#include "message.h"

/* Longer than a resolver's client waits for one answer (resolv.conf(5): 5 s, and c-ares 5 s). */
#define QUERY_NS (10 * SECOND_NS)
/* Queries without an answer that one endpoint may have in that time: 16 endpoints' flood fills the map. */
#define QUERIES_SHARE 4096

/* Whether the endpoint may have one more query without an answer. The window is about right: CPUs may both begin it. */
static __always_inline int query_share_take(struct name_share *share, __u64 now_ns)
{
	if (now_ns - share->window_ns > QUERY_NS) {
		share->window_ns = now_ns;
		share->queries = 0;
	}
	/* Answers to queries of the window before may take it below zero. */
	if ((__s32)share->queries >= QUERIES_SHARE)
		return 0;
	__sync_fetch_and_add(&share->queries, 1);
	return 1;
}

/* Notes the query that was read, or that it was sent once more. Returns what to count. */
static __always_inline enum reason query_note(const struct message *message)
{
	struct query fresh = { .name = message->reading->chain[0], .waiting = 1 };
	struct name_share *share = name_share_find(message->id);
	__u64 now_ns = bpf_ktime_get_ns();
	struct query_key key;
	struct query *known;

	query_key_fill(&key, message, DIRECTION_EGRESS);
	fresh.expires_ns = now_ns + QUERY_NS;
	known = bpf_map_lookup_elem(&queries, &key);
	if (known && known->name == fresh.name && known->expires_ns > now_ns) {
		known->expires_ns = fresh.expires_ns;
		__sync_fetch_and_add(&known->waiting, 1);
		return REASON_DNS_QUERY;
	}
	if (!share || !query_share_take(share, now_ns))
		return REASON_DNS_QUERY_SHARE;
	return bpf_map_update_elem(&queries, &key, &fresh, BPF_ANY) ? REASON_DNS_FULL : REASON_DNS_QUERY;
}

/* Whether a rule of the endpoint is about names of this pattern. */
static __always_inline int pattern_has_rule(const struct endpoint *endpoint, __u32 pattern)
{
	struct named_key key = { .rule_set = endpoint_rule_set(endpoint, DIRECTION_EGRESS), .pattern = pattern };

	return pattern && bpf_map_lookup_elem(&named_rule_sets, &key);
}

/* Leaves a query over TCP that is refused to the engine, which answers in the resolver's place. Returns where there is none. */
static __always_inline void query_hand(struct __sk_buff *skb, const struct message *message)
{
	struct plugin_state *state = plugin_find(ABI_PIECES);
	struct ask *ask;

	if (skb->cb[3] || !state || state->status != PLUGIN_ON)
		return;
	ask = message_question(skb, message, DIRECTION_EGRESS, 0, ABI_PIECES);
	if (!ask)
		return;
	ask->flags |= ASK_REFUSED;
	ask->sequence = message->policy->refusal & DNS_CODE;
	bpf_tail_call(skb, &hold_stage, 0);
}

/*
 * Makes a query the answer that refuses it, and sends it back to the pod. Both sides of each exchange weigh the same in a
 * checksum; what else changes is put into it. A process gets EPERM.
 */
static __always_inline int query_refuse(struct __sk_buff *skb, const struct message *message, const enum place place)
{
	const struct packet *packet = &message->packet;
	__u32 network = packet->network_offset, transport = packet->transport_offset, addresses, size;
	__be16 ports[2] = { packet->destination_port, packet->source_port }, before, after;
	__u8 link[2 * ETH_ALEN], swapped[2 * ETH_ALEN], ends[32];
	int v4 = skb->protocol == bpf_htons(ETH_P_IP);

	if (place == PLACE_INTERFACE && packet->protocol == IPPROTO_TCP)
		query_hand(skb, message);
	if (place != PLACE_INTERFACE || packet->protocol != IPPROTO_UDP || network != sizeof(struct ethhdr))
		return OUTCOME_DROP;
	size = v4 ? 4 : 16;
	addresses = network + (v4 ? offsetof(struct iphdr, saddr) : offsetof(struct ipv6hdr, saddr));
	__builtin_memcpy(ends, packet->destination, 16);
	__builtin_memcpy(ends + 16, packet->source, 16);
	if (bpf_skb_load_bytes(skb, 0, link, sizeof(link)) ||
	    bpf_skb_load_bytes(skb, message->offset + offsetof(struct dns_header, flags), &before, sizeof(before)))
		return OUTCOME_DROP;
	__builtin_memcpy(swapped, link + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(swapped + ETH_ALEN, link, ETH_ALEN);
	after = (before & bpf_htons(~DNS_CODE)) | bpf_htons(DNS_ANSWER | (message->policy->refusal & DNS_CODE));
	if (bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0) ||
	    bpf_skb_store_bytes(skb, transport, ports, sizeof(ports), 0) ||
	    bpf_skb_store_bytes(skb, message->offset + offsetof(struct dns_header, flags), &after, sizeof(after), 0))
		return OUTCOME_DROP;
	if (size == 4) {
		if (bpf_skb_store_bytes(skb, addresses, ends + 12, 4, 0) || bpf_skb_store_bytes(skb, addresses + 4, ends + 28, 4, 0))
			return OUTCOME_DROP;
	} else if (bpf_skb_store_bytes(skb, addresses, ends, sizeof(ends), 0)) {
		return OUTCOME_DROP;
	}
	bpf_l4_csum_replace(skb, transport + offsetof(struct udphdr, check), before, after, BPF_F_MARK_MANGLED_0 | sizeof(after));
	return bpf_redirect(skb->ifindex, 0);
}

/* The first packet of a connection to a resolver whose messages nobody can read: policy is what it is, and it is shown. */
static __always_inline int message_encrypted(struct __sk_buff *skb, const struct message *message)
{
	const struct endpoint *endpoint = message->endpoint;

	if (!message_denied(message) && endpoint && ((endpoint->flags & ENDPOINT_NAMES) || endpoint->dns_plugin)) {
		count_bytes(REASON_DNS_ENCRYPTED, 0);
		message_record(message, DIRECTION_EGRESS, 0, VERDICT_ALLOW, REASON_DNS_ENCRYPTED);
	}
	return message_end(skb, message, DIRECTION_EGRESS);
}

/* What endpoints send to port 53, and the first packets to port 853. */
static __always_inline int message_sent(struct __sk_buff *skb, const enum place place)
{
	struct message message = {};
	enum decided decided = packet_decided(skb);
	enum reason noted;
	int problem, inside, filters, found = message_find(skb, &message, DIRECTION_EGRESS, place);

	if (message.packet.destination_port == DNS_ENCRYPTED_PORT)
		return message_encrypted(skb, &message);
	if (!found)
		return message_end(skb, &message, DIRECTION_EGRESS);
	if (!message.trusted && message_denied(&message))
		return message_end(skb, &message, DIRECTION_EGRESS);
	filters = message.trusted && (message.policy->flags & POLICY_REFUSE_OUTSIDE);
	if (message.packet.protocol == IPPROTO_TCP && !message.length) {
		/* Nothing is said yet: what will be is looked at, segment by segment. */
		if (message_denied(&message))
			message.reason = REASON_PASS_NAME_QUERY;
		return message_end(skb, &message, DIRECTION_EGRESS);
	}
	message.reading = reading_begin();
	if (!message.reading) {
		count_bytes(REASON_DNS_BUSY, 0);
		return message_end(skb, &message, DIRECTION_EGRESS);
	}
	problem = message_load(skb, &message);
	if (!problem)
		problem = question_read(message.reading, 0);
	if (problem) {
		reading_end(message.reading);
		message_collect(skb, &message, DIRECTION_EGRESS, place, problem, decided);
		count_bytes(problem, 0);
		/* Nobody knows which name it is about: where names decide, it does not pass. */
		if (!message_denied(&message) && filters)
			message.reason = REASON_DROP_NAME;
		else if (!message_denied(&message) && message.endpoint->dns_plugin)
			message.reason = REASON_DROP_UNREADABLE;
		return message_end(skb, &message, DIRECTION_EGRESS);
	}
	inside = message.trusted && pattern_has_rule(message.endpoint, message.reading->chain_pattern[0]);
	noted = query_note(&message);
	if (inside || (!message_denied(&message) && !filters)) {
		reading_end(message.reading);
		/* What was not noted has an answer that would come through, and teach nothing: better not asked. */
		if (noted != REASON_DNS_QUERY)
			return drop(skb, noted);
		count_bytes(noted, 0);
		if (message_denied(&message))
			message.reason = REASON_PASS_NAME_QUERY;
		return message_end(skb, &message, DIRECTION_EGRESS);
	}
	name_note(message.reading);
	message_record(&message, DIRECTION_EGRESS, message.reading->chain[0], VERDICT_DENY, REASON_DROP_NAME);
	reading_end(message.reading);
	count(skb, REASON_DROP_NAME);
	count_bytes(noted, 0);
	return query_refuse(skb, &message, place);
}

SEC("tc")
int dns_from_pod(struct __sk_buff *skb)
{
	return message_sent(skb, PLACE_INTERFACE);
}

SEC("cgroup_skb/egress")
int dns_from_process(struct __sk_buff *skb)
{
	return message_sent(skb, PLACE_CGROUP) == OUTCOME_DROP ? CGROUP_DENY : CGROUP_ALLOW;
}

#endif
