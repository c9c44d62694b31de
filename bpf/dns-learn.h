/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Answers that endpoints receive from resolvers, where names decide or a plugin sees the answers.
 *
 * The answer to a query that was noted is read before it is delivered: when the pod sees it, its addresses are known. It
 * teaches all that it says, or nothing.
 */
#ifndef SLUICE_DNS_LEARN_H
#define SLUICE_DNS_LEARN_H

#include "dns-message.h"

/* RFC 8767, 4: nothing is to be kept longer than seven days. A TTL with the highest bit set is 0 (RFC 2181, 8). */
#define TTL_MAX_S (7 * 24 * 3600)
#define TTL_SIGN 0x80000000U
/* An entry that is over for longer may be on its way out: see sluice_names__collect. */
#define STALE_S 30

/* Takes an answer off its query, which leaves when it has as many as it was sent. */
static __always_inline void query_settle(const struct query_key *key, struct query *query)
{
	struct name_share *share;

	/* Of two CPUs with the last answer, the one that deletes counts. */
	if ((__s32)__sync_fetch_and_add(&query->waiting, -1) > 1 || bpf_map_delete_elem(&queries, key))
		return;
	share = bpf_map_lookup_elem(&name_shares, &key->endpoint);
	if (share)
		__sync_fetch_and_add(&share->queries, -1);
}

/* Until when an address is known. */
static __always_inline __u32 address_expiry_s(const struct policy_state *policy, __u32 ttl_s, __u32 now)
{
	if (ttl_s & TTL_SIGN)
		ttl_s = 0;
	if (ttl_s < policy->name_minimum_s)
		ttl_s = policy->name_minimum_s;
	if (ttl_s > TTL_MAX_S)
		ttl_s = TTL_MAX_S;
	/* The second that has begun counts in full. */
	return now + ttl_s + 1;
}

/*
 * Notes in an entry that the address is known by a pattern. Returns 0 when it has no place left. Words change by
 * compare-and-swap: another CPU may learn the same address by another name.
 */
static __always_inline int pattern_note(struct known_address *known, __u64 word, __u32 now)
{
	for (int i = 0; i < ABI_ADDRESS_PATTERNS; i++) {
		__u64 old = known_word(known, i);

		if (old >> KNOWN_PATTERN_SHIFT != word >> KNOWN_PATTERN_SHIFT)
			continue;
		if ((__u32)old >= (__u32)word || __sync_val_compare_and_swap((__u64 *)&known->patterns[i], old, word) == old)
			return 1;
	}
	for (int i = 0; i < ABI_ADDRESS_PATTERNS; i++) {
		__u64 old = known_word(known, i);

		if ((!old || (__u32)old <= now) && __sync_val_compare_and_swap((__u64 *)&known->patterns[i], old, word) == old)
			return 1;
	}
	return 0;
}

/* Whether nothing of an entry is in use for so long that the engine may be taking it away. */
static __always_inline int known_is_stale(const struct known_address *known, __u32 now)
{
	for (int i = 0; i < ABI_ADDRESS_PATTERNS; i++)
		if ((__u32)known_word(known, i) + STALE_S > now)
			return 0;
	return 1;
}

/* The lesson of one message, handed to the loop over its addresses. */
struct lesson {
	struct reading *reading;
	struct name_share *share;
	const struct policy_state *policy;
	__u64 name;
	__u32 endpoint;
	__u32 now;
	__u32 pattern;
	__u32 failures;
};

/* Learns one address. Always goes on. */
static long address_learn(__u32 index, struct lesson *lesson)
{
	struct dns_address *address = &lesson->reading->addresses[index & (DNS_RECORDS_MAX - 1)];
	struct known_key key = { .endpoint = lesson->endpoint };
	struct known_address fresh = { .name = lesson->name }, *known;
	__u64 word = (__u64)lesson->pattern << KNOWN_PATTERN_SHIFT |
		     address_expiry_s(lesson->policy, address->ttl_s, lesson->now);
	int error;

	__builtin_memcpy(key.address, address->address, 16);
	known = bpf_map_lookup_elem(&known_addresses, &key);
	if (known && !known_is_stale(known, lesson->now)) {
		known->name = lesson->name;
		if (!pattern_note(known, word, lesson->now)) {
			count_bytes(REASON_DNS_PATTERNS, 0);
			lesson->failures++;
		}
		return 0;
	}
	if (!known && lesson->share->addresses >= lesson->policy->addresses_share) {
		count_bytes(REASON_DNS_ADDRESS_SHARE, 0);
		lesson->failures++;
		return 0;
	}
	fresh.patterns[0] = (struct known_pattern){ .expires_s = word, .pattern = lesson->pattern };
	error = bpf_map_update_elem(&known_addresses, &key, &fresh, known ? BPF_ANY : BPF_NOEXIST);
	if (!error) {
		if (!known)
			__sync_fetch_and_add(&lesson->share->addresses, 1);
		count_bytes(REASON_DNS_ADDRESS, 0);
		return 0;
	}
	/* Another CPU was first, or there is no room. */
	known = bpf_map_lookup_elem(&known_addresses, &key);
	if (!known || !pattern_note(known, word, lesson->now)) {
		count_bytes(REASON_DNS_FULL, 0);
		lesson->failures++;
	}
	return 0;
}

/* Learns every address of an answer under each pattern that a name of its chain belongs to, and counts what came of it. */
static __always_inline void answer_learn(const struct message *message)
{
	struct reading *reading = message->reading;
	struct lesson lesson = {
		.reading = reading,
		.share = name_share_find(message->journey->endpoint),
		.policy = message->policy,
		.name = reading->chain[0],
		.endpoint = message->journey->endpoint,
		.now = now_s(),
	};
	int taught = 0;

	if (!lesson.share) {
		count_bytes(REASON_DNS_FULL, 0);
		return;
	}
	for (__u32 i = 0; i < DNS_CHAIN_MAX; i++) {
		if (i >= reading->chain_length)
			break;
		lesson.pattern = reading->chain_pattern[i];
		/* A chain may stay within one pattern; the one before is the one that counts. */
		if (!lesson.pattern || (i && lesson.pattern == reading->chain_pattern[i - 1]))
			continue;
		bpf_loop(reading->address_count, address_learn, &lesson, 0);
		taught = 1;
	}
	if (!taught)
		count_bytes(REASON_DNS_OUTSIDE, 0);
	else if (!lesson.failures)	/* each failure was counted */
		count_bytes(REASON_DNS_LEARNED, 0);
}

/* Reads an answer to a query that is known. Returns 0, or the reason why it teaches nothing. */
static __always_inline int answer_check(struct reading *reading, const struct query *query)
{
	const struct dns_header *header = (const struct dns_header *)reading->message;
	__u32 flags = bpf_ntohs(header->flags);
	int problem = question_read(reading, 1);

	if (problem)
		return problem;
	if (reading->chain[0] != query->name)
		return REASON_DNS_MISMATCH;
	if (flags & DNS_TRUNCATED)
		return REASON_DNS_TRUNCATED;
	if (flags & DNS_CODE)
		return REASON_DNS_NEGATIVE;
	if (reading->chain_pattern[0])
		name_note(reading);
	problem = answer_read(reading);
	if (problem)
		return problem;
	return reading->address_count ? 0 : REASON_DNS_NEGATIVE;
}

/* Learns from an answer what it teaches, and takes it off its query. */
static __always_inline void answer_take(const struct message *message, const struct query_key *key, struct query *query)
{
	int problem = message->trusted ? answer_check(message->reading, query) : 0;

	if (problem)
		count_bytes(problem, 0);
	else if (message->trusted)
		answer_learn(message);
	/* An answer about another name may be an attempt to use the query up: the true one is still to come. */
	if (problem != REASON_DNS_MISMATCH && problem != REASON_DNS_HEADER)
		query_settle(key, query);
}

/* The end of what cannot be read, or answers nothing: it teaches nothing, and does not pass a plugin that is to see it. */
static __always_inline int answer_unread(struct __sk_buff *skb, struct message *message, const enum hook hook)
{
	if (message->endpoint->dns_plugin && !message->journey->denied)
		journey_deny(message->journey, REASON_DROP_UNREADABLE, 0);
	return message_end(skb, message, hook);
}

/*
 * Hands an answer to the plugin that is asked about answers; the packet comes again with what was decided, or not at all. Returns
 * when nobody can be asked and the failure policy lets it pass.
 */
static __always_inline int answer_ask(struct __sk_buff *skb, const struct message *message, __u64 name, const enum hook hook)
{
	struct plugin_state *plugin = plugin_find(message->endpoint->dns_plugin);
	enum reason why = REASON_FAIL_PLUGIN_OFF;
	struct ask *ask = message_ask(skb, message, DIRECTION_INGRESS, name, message->endpoint->dns_plugin);

	ask->rule = message->endpoint->dns_rule;
	if (!hook_is_interface(hook)) {
		why = plugin_is_on(plugin) ? REASON_FAIL_CANNOT_HOLD : REASON_FAIL_PLUGIN_OFF;
	} else if (plugin_is_on(plugin)) {
		enter_hold(skb);
		why = REASON_FAIL_ENGINE_ABSENT;
	}
	return failure_policy(skb, ask, plugin, why);
}

/* Finds the query that an answer is to. Returns 0, or the reason why there is none. */
static __always_inline int answer_match(struct __sk_buff *skb, struct message *message, struct query_key *key, struct query **query)
{
	int problem = message_load(skb, message);

	if (problem)
		return problem;
	query_key_fill(key, message, DIRECTION_INGRESS);
	*query = bpf_map_lookup_elem(&queries, key);
	return *query && (*query)->expires_ns > bpf_ktime_get_ns() ? 0 : REASON_DNS_UNSOLICITED;
}

/* The end of an answer that is read; the buffer is taken. */
static __always_inline int answer_read_packet(struct __sk_buff *skb, struct message *message, const enum hook hook)
{
	struct journey *journey = message->journey;
	int allowed = journey->decided == DECIDED_ALL || journey->failed_open, problem, outcome;
	struct query *query = NULL;
	struct query_key key;

	problem = answer_match(skb, message, &key, &query);
	if (problem || !query) {
		reading_end(message->reading);
		message_collect(skb, message, hook, problem);
		count_bytes(problem, 0);
		return answer_unread(skb, message, hook);
	}
	if (journey->denied && message->trusted)
		journey_allow(journey, REASON_PASS_NAME_ANSWER);
	if (message->endpoint->dns_plugin && !allowed && !journey->denied) {
		/* Its stage does not come back: the buffer is free meanwhile. */
		reading_end(message->reading);
		outcome = answer_ask(skb, message, query->name, hook);
		if (outcome != OUTCOME_NEXT)
			return outcome;
		message->reading = reading_begin();
		if (!message->reading)
			return answer_unread(skb, message, hook);
		if (message_load(skb, message)) {
			reading_end(message->reading);
			return answer_unread(skb, message, hook);
		}
	}
	answer_take(message, &key, query);
	reading_end(message->reading);
	return message_end(skb, message, hook);
}

/* Packets that endpoints receive from port 53. */
static __always_inline int answer_packet(struct __sk_buff *skb, struct message *message, const enum hook hook)
{
	struct journey *journey = message->journey;
	int tcp = message->packet->protocol == IPPROTO_TCP;

	if (!message_find(skb, message, DIRECTION_INGRESS))
		return message_end(skb, message, hook);
	if (message->trusted && tcp && !message->packet->opens && journey->denied)
		journey_allow(journey, REASON_PASS_NAME_ANSWER);
	if (tcp && !message->length)
		return message_end(skb, message, hook);
	if (journey->decided == DECIDED_PACKET)
		return answer_unread(skb, message, hook);
	message->reading = reading_begin();
	if (message->reading)
		return answer_read_packet(skb, message, hook);
	count_bytes(REASON_DNS_BUSY, 0);
	return answer_unread(skb, message, hook);
}

static __always_inline int answer_stage(struct __sk_buff *skb, const enum hook hook)
{
	struct journey *journey = journey_resume(skb, hook);
	struct message message = {};

	if (!journey)	/* not possible */
		return hook_outcome(drop(skb, REASON_FAIL_STAGE), hook);
	if (!message_begin(skb, &message, journey))
		return journey_end(journey, message_give_up(skb, journey, hook), hook);
	return journey_end(journey, answer_packet(skb, &message, hook), hook);
}

SEC("tc")
int dns_to_pod(struct __sk_buff *skb)
{
	return answer_stage(skb, HOOK_TO_POD);
}

SEC("cgroup_skb/ingress")
int dns_received(struct __sk_buff *skb)
{
	return answer_stage(skb, HOOK_TO_PROCESS);
}

#endif
