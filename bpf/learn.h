/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What becomes of the DNS messages of endpoints that have rules about names.
 *
 * A query to a trusted resolver is noted, with its name; one about a name without a rule is refused at once where that is
 * wanted or nothing else allows it. The answer is read before it is delivered: when the pod sees it, its addresses are known.
 * Entered by tail call when everything else about the packet has been decided, with the packet's outcome so far in cb.
 */
#ifndef SLUICE_LEARN_H
#define SLUICE_LEARN_H

#include "dns.h"
#include "endpoint.h"

/* Longer than a resolver's client waits for one answer (resolv.conf(5): 5 s, and c-ares 5 s). */
#define QUERY_NS (10 * SECOND_NS)
/* Queries without an answer that one endpoint may have in that time: 16 endpoints' flood fills the map. */
#define QUERIES_SHARE 4096
/* RFC 8767, 4: nothing is to be kept longer than seven days. A TTL with the highest bit set is 0 (RFC 2181, 8). */
#define TTL_MAX_S (7 * 24 * 3600)
#define TTL_SIGN 0x80000000U
/* What is over for longer may be on its way out: see sluice_names__collect. */
#define STALE_S 30

/* A DNS message, where it came from and what was decided about its packet. */
struct message {
	struct packet packet;
	struct reading *reading;
	struct endpoint *endpoint;
	struct policy_state *policy;
	__u32 id;		/* of the endpoint */
	__u32 reason;		/* enum reason */
	__u32 rule;		/* that denies it */
	__u32 offset;		/* of the DNS message in the packet */
	__u32 length;
};

static __always_inline int message_denied(const struct message *message)
{
	return message->reason >= REASON_HELD;
}

/* Shows a message that is not let through, with the hash of the name that it asks for, or 0. */
static __always_inline void message_record(const struct message *message, enum direction direction, __u64 name,
					   enum reason reason)
{
	const struct packet *packet = &message->packet;
	int egress = direction == DIRECTION_EGRESS;
	__u32 zero = 0, peer, own = message->endpoint ? message->endpoint->identity : 0;
	struct ask *ask = bpf_map_lookup_elem(&questions, &zero);

	if (!ask)	/* not possible: an array map's first entry */
		return;
	peer = identity_find((const struct address *)(egress ? packet->destination : packet->source));
	__builtin_memset(ask, 0, sizeof(*ask));
	ask->time_ns = bpf_ktime_get_ns();
	ask->name = name;
	__builtin_memcpy(ask->source, packet->source, 16);
	__builtin_memcpy(ask->destination, packet->destination, 16);
	ask->source_identity = egress ? own : peer;
	ask->destination_identity = egress ? peer : own;
	ask->endpoint = message->id;
	ask->rule = message->rule;
	ask->source_port = packet->source_port;
	ask->destination_port = packet->destination_port;
	ask->protocol = packet->protocol;
	ask->direction = direction;
	flow_record_write(ask, VERDICT_DENY, reason);
}

/* The packet's outcome when its message changes nothing. */
static __always_inline int message_end(struct __sk_buff *skb, const struct message *message, enum direction direction)
{
	if (!message_denied(message))
		return pass(skb, message->reason);
	message_record(message, direction, 0, message->reason);
	return drop(skb, message->reason);
}

/*
 * Finds the endpoint and where the message is. Returns 0 when names have nothing to do with it. length is 0 for a segment of TCP
 * without data.
 */
static __always_inline int message_find(struct __sk_buff *skb, struct message *message, enum direction direction,
					const enum place place)
{
	struct packet *packet = &message->packet;
	__u32 zero = 0, header = sizeof(struct udphdr);
	const __u8 *resolver = direction == DIRECTION_EGRESS ? packet->destination : packet->source;

	message->reason = skb->cb[0];
	message->id = skb->cb[1];
	message->rule = skb->cb[2];
	message->endpoint = bpf_map_lookup_elem(&endpoints, &message->id);
	message->policy = bpf_map_lookup_elem(&policy_states, &zero);
	if (packet_parse(skb, packet, place == PLACE_INTERFACE ? sizeof(struct ethhdr) : 0) != PARSED_FLOW)
		return 0;	/* not possible: it was one before */
	if (!message->endpoint || !message->policy || !(message->endpoint->flags & ENDPOINT_NAMES))
		return 0;
	if (!bpf_map_lookup_elem(&resolvers, resolver)) {
		if (direction == DIRECTION_INGRESS)
			count_bytes(REASON_DNS_UNTRUSTED, 0);
		return 0;
	}
	if (packet->protocol == IPPROTO_TCP) {
		struct tcphdr buffer, *tcp = packet_read(skb, packet->transport_offset, &buffer, sizeof(buffer));

		if (!tcp)
			return 0;
		header = tcp->doff * 4;
	}
	message->offset = packet->transport_offset + header;
	message->length = skb->len > message->offset ? skb->len - message->offset : 0;
	return 1;
}

/* Copies the message to its buffer. Returns 0 or the reason why it cannot be read. */
static __always_inline int message_load(struct __sk_buff *skb, struct message *message)
{
	struct reading *reading = message->reading;
	__u64 length = message->length;

	if (message->packet.protocol == IPPROTO_UDP) {
		struct udphdr buffer, *udp = packet_read(skb, message->packet.transport_offset, &buffer, sizeof(buffer));

		if (!udp || skb->gso_size || bpf_ntohs(udp->len) < sizeof(*udp) + DNS_HEADER ||
		    bpf_ntohs(udp->len) - sizeof(*udp) > length)
			return REASON_DNS_SHORT;
		length = bpf_ntohs(udp->len) - sizeof(*udp);
	} else {
		__be16 prefix;

		if (length < DNS_LENGTH_PREFIX + DNS_HEADER || bpf_skb_load_bytes(skb, message->offset, &prefix, sizeof(prefix)) ||
		    bpf_ntohs(prefix) != length - DNS_LENGTH_PREFIX)
			return REASON_DNS_SEGMENTED;
		length -= DNS_LENGTH_PREFIX;
		message->offset += DNS_LENGTH_PREFIX;
	}
	if (length > DNS_MESSAGE_MAX)
		return REASON_DNS_LARGE;
	if (length < DNS_HEADER)
		return REASON_DNS_SHORT;
	/* As hold_copy: in a form that every verifier since 6.1 follows. */
	length -= 1;
	asm volatile("" : "+r"(length));
	length &= DNS_MESSAGE_MAX - 1;
	asm volatile("" : "+r"(length));
	length += 1;
	if (bpf_skb_load_bytes(skb, message->offset, reading->message, length))
		return REASON_DNS_SHORT;
	reading->length = length;
	return 0;
}

static __always_inline struct name_share *name_share_find(__u32 endpoint)
{
	struct name_share *share = bpf_map_lookup_elem(&name_shares, &endpoint), first = {};

	if (share)
		return share;
	bpf_map_update_elem(&name_shares, &endpoint, &first, BPF_NOEXIST);
	return bpf_map_lookup_elem(&name_shares, &endpoint);
}

static __always_inline void query_key_fill(struct query_key *key, const struct message *message, enum direction direction)
{
	const struct packet *packet = &message->packet;
	int egress = direction == DIRECTION_EGRESS;

	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->resolver, egress ? packet->destination : packet->source, 16);
	key->endpoint = message->id;
	key->port = egress ? packet->source_port : packet->destination_port;
	key->id = ((const struct dns_header *)message->reading->message)->id;
	key->protocol = packet->protocol;
}

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

/* Whether a rule of the endpoint is about names of this pattern. */
static __always_inline int pattern_has_rule(const struct endpoint *endpoint, __u32 pattern)
{
	struct named_key key = { .rule_set = endpoint_rule_set(endpoint, DIRECTION_EGRESS), .pattern = pattern };

	return pattern && bpf_map_lookup_elem(&named_rule_sets, &key);
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

/*
 * What policy says about the resolver, whatever was said before: the answer to a query that passed for its name is, to conntrack,
 * a flow that the resolver opened, and another query from that port an answer to it.
 */
static __always_inline void query_judge(struct message *message)
{
	struct judgement judgement = {};
	struct question question = {
		.peer = message->packet.destination,
		.port = bpf_ntohs(message->packet.destination_port),
		.protocol = message->packet.protocol,
		.direction = DIRECTION_EGRESS,
		.trusts_node = 1,
		.endpoint = message->id,
	};

	if (message->reason == REASON_PASS_SELF || message->reason == REASON_PASS_LOOPBACK)
		return;
	endpoint_judge(message->endpoint, &question, &judgement);
	if (judgement.rule.action == ACTION_DENY) {
		message->reason = REASON_DROP_POLICY;
		message->rule = judgement.rule.id;
	}
}

/* The name, for people to read. */
static __always_inline void name_note(struct reading *reading)
{
	__u64 hash = reading->name_hash;

	if (!bpf_map_lookup_elem(&dns_names, &hash))
		bpf_map_update_elem(&dns_names, &hash, reading->name, BPF_ANY);
}

/* What endpoints send to port 53. */
static __always_inline int message_sent(struct __sk_buff *skb, const enum place place)
{
	struct message message = {};
	enum reason noted;
	int problem, inside;

	if (!message_find(skb, &message, DIRECTION_EGRESS, place))
		return message_end(skb, &message, DIRECTION_EGRESS);
	query_judge(&message);
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
		count_bytes(problem, 0);
		reading_end(message.reading);
		return message_end(skb, &message, DIRECTION_EGRESS);
	}
	inside = pattern_has_rule(message.endpoint, message.reading->chain_pattern[0]);
	noted = query_note(&message);
	if (inside || (!message_denied(&message) && !(message.policy->flags & POLICY_REFUSE_OUTSIDE))) {
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
	message_record(&message, DIRECTION_EGRESS, message.reading->chain[0], REASON_DROP_NAME);
	reading_end(message.reading);
	count(skb, REASON_DROP_NAME);
	count_bytes(noted, 0);
	return query_refuse(skb, &message, place);
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

/* What one message teaches, handed to the loop over its addresses. */
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

/* Learns every address of an answer under each pattern that a name of its chain belongs to. Returns what to count. */
static __always_inline enum reason message_learn(const struct message *message)
{
	struct reading *reading = message->reading;
	struct lesson lesson = {
		.reading = reading,
		.share = name_share_find(message->id),
		.policy = message->policy,
		.name = reading->chain[0],
		.endpoint = message->id,
		.now = now_s(),
	};
	int taught = 0;

	if (!lesson.share)
		return REASON_DNS_FULL;
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
		return REASON_DNS_OUTSIDE;
	return lesson.failures ? REASON_MAX : REASON_DNS_LEARNED;
}

/* Reads an answer to a query that is known, and learns from it. Returns what to count; REASON_MAX: counted already. */
static __always_inline enum reason message_answer(const struct message *message, const struct query *query)
{
	struct reading *reading = message->reading;
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
	return reading->address_count ? message_learn(message) : REASON_DNS_NEGATIVE;
}

/* What endpoints receive from port 53. */
static __always_inline int message_received(struct __sk_buff *skb, const enum place place)
{
	struct message message = {};
	struct query_key key;
	struct query *query;
	enum reason learned;
	int problem;

	if (!message_find(skb, &message, DIRECTION_INGRESS, place))
		return message_end(skb, &message, DIRECTION_INGRESS);
	if (message.packet.protocol == IPPROTO_TCP && !message.packet.opens && message_denied(&message))
		message.reason = REASON_PASS_NAME_ANSWER;
	if (message.packet.protocol == IPPROTO_TCP && !message.length)
		return message_end(skb, &message, DIRECTION_INGRESS);
	message.reading = reading_begin();
	if (!message.reading) {
		count_bytes(REASON_DNS_BUSY, 0);
		return message_end(skb, &message, DIRECTION_INGRESS);
	}
	problem = message_load(skb, &message);
	if (problem) {
		count_bytes(problem, 0);
		goto end;
	}
	query_key_fill(&key, &message, DIRECTION_INGRESS);
	query = bpf_map_lookup_elem(&queries, &key);
	if (!query || query->expires_ns <= bpf_ktime_get_ns()) {
		count_bytes(REASON_DNS_UNSOLICITED, 0);
		goto end;
	}
	if (message_denied(&message))
		message.reason = REASON_PASS_NAME_ANSWER;
	learned = message_answer(&message, query);
	if (learned != REASON_MAX)
		count_bytes(learned, 0);
	/* An answer about another name may be an attempt to use the query up: the true one is still to come. */
	if (learned != REASON_DNS_MISMATCH && learned != REASON_DNS_HEADER)
		query_settle(&key, query);
end:
	reading_end(message.reading);
	return message_end(skb, &message, DIRECTION_INGRESS);
}

SEC("tc")
int dns_from_pod(struct __sk_buff *skb)
{
	return message_sent(skb, PLACE_INTERFACE);
}

SEC("tc")
int dns_to_pod(struct __sk_buff *skb)
{
	return message_received(skb, PLACE_INTERFACE);
}

SEC("cgroup_skb/egress")
int dns_from_process(struct __sk_buff *skb)
{
	return message_sent(skb, PLACE_CGROUP) == OUTCOME_DROP ? CGROUP_DENY : CGROUP_ALLOW;
}

SEC("cgroup_skb/ingress")
int dns_to_process(struct __sk_buff *skb)
{
	return message_received(skb, PLACE_CGROUP) == OUTCOME_DROP ? CGROUP_DENY : CGROUP_ALLOW;
}

#endif
