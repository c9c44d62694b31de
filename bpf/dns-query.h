/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Queries that endpoints send to resolvers, where names decide or a plugin sees the answers.
 *
 * A query to a trusted resolver is noted, with its name, so that its answer can teach. One about a name without a rule is
 * refused at once, where that is wanted or nothing else allows it.
 */
#ifndef SLUICE_DNS_QUERY_H
#define SLUICE_DNS_QUERY_H

#include "dns-message.h"

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
	struct name_share *share = name_share_find(message->journey->endpoint);
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
	struct ask *ask;

	if (message->journey->failed_open || !plugin_is_on(plugin_find(ABI_PIECES)))
		return;
	ask = message_ask(skb, message, DIRECTION_EGRESS, 0, ABI_PIECES);
	ask->flags |= ASK_REFUSED;
	ask->response_code = message->policy->refusal & DNS_CODE;
	enter_hold(skb);
}

/* Exchanges the ends of a packet over UDP: in its link, network and transport headers. Returns 0 or an error. */
static __always_inline int packet_turn(struct __sk_buff *skb, const struct packet *packet)
{
	__be16 ports[2] = { packet->destination_port, packet->source_port };
	__u8 link[2 * ETH_ALEN], swapped[2 * ETH_ALEN], ends[32];
	__u32 network = packet->network_offset;

	__builtin_memcpy(ends, packet->destination, 16);
	__builtin_memcpy(ends + 16, packet->source, 16);
	if (bpf_skb_load_bytes(skb, 0, link, sizeof(link)))
		return 1;
	__builtin_memcpy(swapped, link + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(swapped + ETH_ALEN, link, ETH_ALEN);
	if (bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0) ||
	    bpf_skb_store_bytes(skb, packet->transport_offset, ports, sizeof(ports), 0))
		return 1;
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return bpf_skb_store_bytes(skb, network + offsetof(struct ipv6hdr, saddr), ends, sizeof(ends), 0);
	return bpf_skb_store_bytes(skb, network + offsetof(struct iphdr, saddr), ends + 12, 4, 0) ||
	       bpf_skb_store_bytes(skb, network + offsetof(struct iphdr, daddr), ends + 28, 4, 0);
}

/*
 * Makes a query the answer that refuses it, and sends it back to the pod. Both sides of each exchange weigh the same in a
 * checksum; what else changes is put into it. A process gets EPERM.
 */
static __always_inline int query_refuse(struct __sk_buff *skb, const struct message *message, const enum hook hook)
{
	const struct packet *packet = message->packet;
	__u32 flags = message->offset + offsetof(struct dns_header, flags);
	__be16 before, after;

	if (hook_is_interface(hook) && packet->protocol == IPPROTO_TCP)
		query_hand(skb, message);
	if (!hook_is_interface(hook) || packet->protocol != IPPROTO_UDP || packet->network_offset != sizeof(struct ethhdr) ||
	    bpf_skb_load_bytes(skb, flags, &before, sizeof(before)) || packet_turn(skb, packet))
		return OUTCOME_DROP;
	after = (before & bpf_htons(~DNS_CODE)) | bpf_htons(DNS_ANSWER | (message->policy->refusal & DNS_CODE));
	if (bpf_skb_store_bytes(skb, flags, &after, sizeof(after), 0))
		return OUTCOME_DROP;
	bpf_l4_csum_replace(skb, packet->transport_offset + offsetof(struct udphdr, check), before, after,
			    BPF_F_MARK_MANGLED_0 | sizeof(after));
	return bpf_redirect(skb->ifindex, 0);
}

/* The first packet of a connection to a resolver whose messages nobody can read: policy is what it is, and it is shown. */
static __always_inline int query_encrypted(struct __sk_buff *skb, const struct message *message, const enum hook hook)
{
	const struct endpoint *endpoint = message->endpoint;

	if (!message->journey->denied && ((endpoint->flags & ENDPOINT_NAMES) || endpoint->dns_plugin)) {
		count_bytes(REASON_DNS_ENCRYPTED, 0);
		message_record(message, DIRECTION_EGRESS, 0, VERDICT_ALLOW, REASON_DNS_ENCRYPTED);
	}
	return message_end(skb, message, hook);
}

/* Whether queries about names without a rule are refused also where another rule allows the resolver. */
static __always_inline int message_filters(const struct message *message)
{
	return message->trusted && (message->policy->flags & POLICY_REFUSE_OUTSIDE);
}

/* The end of a query that cannot be read. Nobody knows which name it is about: where names decide, it does not pass. */
static __always_inline int query_unread(struct __sk_buff *skb, const struct message *message, const enum hook hook, int problem)
{
	struct journey *journey = message->journey;

	message_collect(skb, message, hook, problem);
	count_bytes(problem, 0);
	if (!journey->denied && message_filters(message))
		journey_deny(journey, REASON_DROP_NAME, 0);
	else if (!journey->denied && message->endpoint->dns_plugin)
		journey_deny(journey, REASON_DROP_UNREADABLE, 0);
	return message_end(skb, message, hook);
}

/* The end of a query that was read. */
static __always_inline int query_decide(struct __sk_buff *skb, struct message *message, const enum hook hook)
{
	int inside = message->trusted && pattern_has_rule(message->endpoint, message->reading->chain_pattern[0]);
	struct journey *journey = message->journey;
	enum reason noted;

	if (inside || (!journey->denied && !message_filters(message))) {
		noted = query_note(message);
		reading_end(message->reading);
		/* A query that was not noted has an answer that would come through, and teach nothing: better not asked. */
		if (noted != REASON_DNS_QUERY)
			return packet_drop(skb, journey, DIRECTION_EGRESS, noted);
		count_bytes(noted, 0);
		if (journey->denied)
			journey_allow(journey, REASON_PASS_NAME_QUERY);
		return message_end(skb, message, hook);
	}
	/* Refused in the name of whom it was sent to. */
	journey_take_backend(journey);
	noted = query_note(message);
	name_note(message->reading);
	message_record(message, DIRECTION_EGRESS, message->reading->chain[0], VERDICT_DENY, REASON_DROP_NAME);
	reading_end(message->reading);
	count(skb, REASON_DROP_NAME);
	count_bytes(noted, 0);
	return query_refuse(skb, message, hook);
}

/* Packets that endpoints send to port 53, and the first packets to port 853. */
static __always_inline int query_packet(struct __sk_buff *skb, struct message *message, const enum hook hook)
{
	struct journey *journey = message->journey;
	int problem, found;

	found = message_find(skb, message, DIRECTION_EGRESS);
	if (message->packet->destination_port == DNS_ENCRYPTED_PORT)
		return query_encrypted(skb, message, hook);
	if (!found || (!message->trusted && journey->denied))
		return message_end(skb, message, hook);
	if (message->packet->protocol == IPPROTO_TCP && !message->length) {
		/* Nothing is said yet: what will be is looked at, segment by segment. */
		if (journey->denied)
			journey_allow(journey, REASON_PASS_NAME_QUERY);
		return message_end(skb, message, hook);
	}
	message->reading = reading_begin();
	if (!message->reading) {
		count_bytes(REASON_DNS_BUSY, 0);
		return message_end(skb, message, hook);
	}
	problem = message_load(skb, message);
	if (!problem)
		problem = question_read(message->reading, 0);
	if (!problem)
		return query_decide(skb, message, hook);
	reading_end(message->reading);
	return query_unread(skb, message, hook, problem);
}

static __always_inline int query_stage(struct __sk_buff *skb, const enum hook hook)
{
	struct journey *journey = journey_resume(skb, hook);
	struct message message = {};

	if (!journey)	/* not possible */
		return hook_outcome(drop(skb, REASON_FAIL_STAGE), hook);
	if (!message_begin(skb, &message, journey))
		return journey_end(journey, message_give_up(skb, journey, hook), hook);
	return journey_end(journey, query_packet(skb, &message, hook), hook);
}

SEC("tc")
int dns_from_pod(struct __sk_buff *skb)
{
	return query_stage(skb, HOOK_FROM_POD);
}

SEC("cgroup_skb/egress")
int dns_sent(struct __sk_buff *skb)
{
	return query_stage(skb, HOOK_FROM_PROCESS);
}

#endif
