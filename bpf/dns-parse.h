/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Reading DNS messages: the question's name, the chain of names that follows from it, and the addresses at its end.
 *
 * A message is copied into a buffer of this CPU and read there. Offsets are masked, so that nothing is read outside of the
 * buffer, and each is compared with the message's length. Compression pointers must lead back, behind where the name that has
 * them began, so that every name ends. All state stands in map memory: the verifier forgets what it knew of a value stored
 * there, so the many ways out of a loop join into one. Sources: RFC 1035, RFC 2181, RFC 6891.
 */
#ifndef SLUICE_DNS_PARSE_H
#define SLUICE_DNS_PARSE_H

#include "account.h"
#include "maps.h"
#include "packet.h"

#define DNS_HEADER 12
#define DNS_LENGTH_PREFIX 2	/* in front of each message over TCP (RFC 1035, 4.2.2) */
#define DNS_QUESTION_TAIL 4	/* type and class, behind a question's name */
#define DNS_RECORD_HEAD 10	/* type, class, TTL and length, behind a record's name */
#define DNS_MESSAGE_MAX 4096	/* a power of two; what servers send over UDP is 1,232 or less (DNS flag day 2020) */
#define DNS_RECORDS_MAX 64
#define DNS_PASSES_MAX 4	/* for chains that are told backwards, which nobody does */
#define DNS_CHAIN_MAX 16	/* names, the question's among them; resolvers follow fewer (BIND: max-query-restarts 11) */

#define DNS_ANSWER 0x8000
#define DNS_OPERATION 0x7800
#define DNS_TRUNCATED 0x0200
#define DNS_CODE 0x000f
#define DNS_TYPE_A 1
#define DNS_TYPE_CNAME 5
#define DNS_TYPE_AAAA 28
#define DNS_CLASS_IN 1

#define LABELS_MAX 127		/* in a name of the greatest length */
#define LABEL_MAX 63
#define LABEL_POINTER 0xc0
#define POINTER_OFFSET 0x3fff

/* Whoever owns a domain can find names with equal hashes: a pattern is compared with the name behind the hash. */
#define NAME_HASH_SEED 0x6a09e667f3bcc908ULL
#define NAME_HASH_PRIME 0x100000001b3ULL

struct dns_header {
	__be16 id;
	__be16 flags;
	__be16 questions;
	__be16 answers;
	__be16 authorities;
	__be16 additionals;
};

/* An address at the end of the chain. */
struct dns_address {
	__u8 address[16];
	__u32 ttl_s;
};

/* One message being read. */
struct reading {
	__u32 busy;
	__u32 length;
	__u32 at;			/* how far it has been read */
	__u32 problem;			/* enum reason of what is wrong, or 0 */
	__u32 stray;			/* records whose name is not in the chain so far */
	__u32 chain_length;
	__u32 address_count;
	__u32 pattern;			/* the closest one to name, or 0 */
	__u32 labels;			/* of name */
	__u32 name_length;		/* root included */
	__u32 name_end;			/* in the message, behind the name */
	__u32 walk_at;
	__u32 walk_floor;		/* a pointer must lead before this */
	__u32 pad;
	__u64 name_hash;
	__u8 name[2 * ABI_NAME_BYTES];	/* in wire format and lower case; its second half is never filled but by overlong names */
	__u16 label_at[LABELS_MAX + 1];	/* in name */
	__u64 chain[DNS_CHAIN_MAX];	/* hashes of names */
	__u32 chain_at[DNS_CHAIN_MAX];	/* where they stand in the message */
	__u32 chain_pattern[DNS_CHAIN_MAX];
	struct dns_address addresses[DNS_RECORDS_MAX];
	__u8 message[DNS_MESSAGE_MAX + ABI_NAME_BYTES];	/* the tail: what is read at a masked offset may lie behind the end */
};

/*
 * The message that is being read on this CPU. Programs on cgroups may interrupt each other, so that there are several; whoever finds none
 * free learns nothing. Never pinned: nothing in it outlives a packet.
 */
#define READINGS 4

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, READINGS);
	__type(key, __u32);
	__type(value, struct reading);
} readings SEC(".maps");

/* Returns a buffer, to be given back with reading_end, or NULL when all are in use. */
static __always_inline struct reading *reading_begin(void)
{
	for (__u32 i = 0; i < READINGS; i++) {
		__u32 index = i;
		struct reading *reading = bpf_map_lookup_elem(&readings, &index);

		if (reading && !__sync_val_compare_and_swap(&reading->busy, 0, 1))
			return reading;
	}
	return NULL;
}

static __always_inline void reading_end(struct reading *reading)
{
	*(volatile __u32 *)&reading->busy = 0;
}

static __always_inline __u32 read_u8(const struct reading *reading, __u32 at)
{
	return reading->message[at & (DNS_MESSAGE_MAX - 1)];
}

static __always_inline __u32 read_u16(const struct reading *reading, __u32 at)
{
	at &= DNS_MESSAGE_MAX - 1;
	return reading->message[at] << 8 | reading->message[at + 1];
}

static __always_inline __u32 read_u32(const struct reading *reading, __u32 at)
{
	return read_u16(reading, at) << 16 | read_u16(reading, at + 2);
}

static __always_inline __u64 name_hash_byte(__u64 hash, __u8 byte)
{
	return (hash ^ byte) * NAME_HASH_PRIME;
}

static __always_inline __u8 lower_case(__u8 byte)
{
	return (__u8)(byte - 'A') < 26 ? byte + 32 : byte;
}

/* One label of a name, or one pointer. Returns 1 at the end of the name, with the problem set where there is one. */
static long name_walk(__u32 index, struct reading **context)
{
	struct reading *reading = *context;
	__u32 at = reading->walk_at, to = reading->name_length & (ABI_NAME_BYTES - 1);
	__u32 length = read_u8(reading, at);

	(void)index;
	reading->problem = REASON_DNS_SHORT;
	if (at >= reading->length)
		return 1;
	if (length >= LABEL_POINTER) {
		__u32 target = read_u16(reading, at) & POINTER_OFFSET;

		reading->problem = REASON_DNS_POINTER;
		if (target < DNS_HEADER || target >= reading->walk_floor)
			return 1;
		if (!reading->name_end)
			reading->name_end = at + 2;
		reading->walk_floor = target;
		reading->walk_at = target;
		reading->problem = REASON_DNS_NAME_LONG;	/* should no turn be left */
		return 0;
	}
	reading->problem = REASON_DNS_LABEL;
	if (length > LABEL_MAX)
		return 1;
	reading->problem = REASON_DNS_NAME_LONG;
	if (reading->name_length + length + 1 > ABI_NAME_BYTES - 1 - (length != 0) || reading->labels >= LABELS_MAX + !length)
		return 1;
	reading->name[to] = length;
	reading->name_length += length + 1;
	if (!length) {
		if (!reading->name_end)
			reading->name_end = at + 1;
		reading->problem = 0;
		return 1;
	}
	reading->label_at[reading->labels++ & LABELS_MAX] = to;
	for (__u32 i = 1; i <= LABEL_MAX; i++) {
		if (i > length)
			break;
		reading->name[to + i] = lower_case(reading->message[(at & (DNS_MESSAGE_MAX - 1)) + i]);
	}
	reading->walk_at = at + 1 + length;
	return 0;
}

/* Whether the name's bytes from at on are the pattern's. */
static __always_inline int pattern_equals(const struct reading *reading, __u32 at, const struct name_pattern *pattern)
{
	__u32 length = reading->name_length - at;

	if (pattern->length != length)
		return 0;
	for (__u32 i = 0; i < ABI_NAME_BYTES; i++) {
		if (i >= length)
			break;
		if (reading->name[(at & (ABI_NAME_BYTES - 1)) + i] != pattern->name[i])
			return 0;
	}
	return 1;
}

/* One more label of the name in front of those that were hashed: the hash of every suffix comes by, and finds its pattern. */
static long name_hash_label(__u32 index, struct reading **context)
{
	struct reading *reading = *context;
	__u32 label = reading->labels - 1 - index;
	__u32 at = reading->label_at[label & LABELS_MAX] & (ABI_NAME_BYTES - 1);
	__u32 length = reading->name[at], id;
	__u64 hash = name_hash_byte(reading->name_hash, length);
	struct name_pattern *pattern;

	for (__u32 i = 1; i <= LABEL_MAX; i++) {
		if (i > length)
			break;
		hash = name_hash_byte(hash, reading->name[at + i]);
	}
	reading->name_hash = hash;
	pattern = bpf_map_lookup_elem(&name_patterns, &hash);
	if (!pattern)
		return 0;
	if (!pattern_equals(reading, at, pattern)) {
		count_bytes(REASON_DNS_COLLISION, 0);
		return 0;
	}
	id = label ? pattern->wildcard : pattern->exact;
	if (id)
		reading->pattern = id;
	return 0;
}

/*
 * Reads the name at an offset: name, name_hash, pattern and name_end are its. Returns 0 or the reason why it is none.
 *
 * Global, so that it is verified once.
 */
__noinline int name_read(struct reading *reading, __u32 at)
{
	struct reading *context = reading;

	if (!reading)
		return REASON_DNS_SHORT;
	reading->labels = 0;
	reading->name_length = 0;
	reading->name_end = 0;
	reading->pattern = 0;
	reading->walk_at = at;
	reading->walk_floor = at;
	reading->problem = REASON_DNS_NAME_LONG;
	/* Each turn takes a label or follows a pointer, and between two pointers stands at least one label. */
	bpf_loop(2 * LABELS_MAX + 2, name_walk, &context, 0);
	if (reading->problem)
		return reading->problem;
	reading->name_hash = NAME_HASH_SEED;
	bpf_loop(reading->labels, name_hash_label, &context, 0);
	return 0;
}

/* Takes the name that was just read into the chain. One that does not fit ends the chain: what follows it is stray. */
static __always_inline void chain_add(struct reading *reading, __u32 at)
{
	__u32 next = reading->chain_length;

	if (next >= DNS_CHAIN_MAX)
		return;
	reading->chain[next] = reading->name_hash;
	reading->chain_at[next] = at;
	reading->chain_pattern[next] = reading->pattern;
	reading->chain_length = next + 1;
}

/* Whether a name of the chain stands at that place, or (at 0) has that hash. */
static __always_inline int chain_has(const struct reading *reading, __u32 at, __u64 hash)
{
	for (__u32 i = 0; i < DNS_CHAIN_MAX; i++) {
		if (i >= reading->chain_length)
			break;
		if (at ? reading->chain_at[i] == at : reading->chain[i] == hash)
			return 1;
	}
	return 0;
}

/* Moves behind a record's name. Returns 1 when it is in the chain, 0 when not, -1 with the problem set. */
static __always_inline int owner_read(struct reading *reading)
{
	__u32 at = reading->at;

	/* Nearly every record has one pointer, to where a name of the chain stands. */
	if (at + 2 <= reading->length && read_u8(reading, at) >= LABEL_POINTER &&
	    chain_has(reading, read_u16(reading, at) & POINTER_OFFSET, 0)) {
		reading->at = at + 2;
		return 1;
	}
	if (name_read(reading, at))
		return -1;
	reading->at = reading->name_end;
	return chain_has(reading, 0, reading->name_hash);
}

static __always_inline int address_take(struct reading *reading, __u32 at, __u32 length, __u32 ttl_s)
{
	struct dns_address *taken = &reading->addresses[reading->address_count & (DNS_RECORDS_MAX - 1)];
	const __u8 *data = reading->message + (at & (DNS_MESSAGE_MAX - 1));

	if (length == 4) {
		__be32 ipv4;

		__builtin_memcpy(&ipv4, data, sizeof(ipv4));
		address_map_ipv4(taken->address, ipv4);
	} else {
		__builtin_memcpy(taken->address, data, 16);
	}
	taken->ttl_s = ttl_s;
	reading->address_count++;
	return 0;
}

/* One record of the answer. Returns 1 to stop, with the problem set. */
static long record_read(__u32 index, struct reading **context)
{
	struct reading *reading = *context;
	__u32 at, type, length;
	int known = owner_read(reading);

	(void)index;
	if (known < 0)
		return 1;
	at = reading->at;
	reading->problem = REASON_DNS_SHORT;
	if (at + DNS_RECORD_HEAD > reading->length)
		return 1;
	type = read_u16(reading, at);
	length = read_u16(reading, at + 8);
	reading->at = at + DNS_RECORD_HEAD + length;
	if (reading->at > reading->length)
		return 1;
	reading->problem = 0;
	if (read_u16(reading, at + 2) != DNS_CLASS_IN || (type != DNS_TYPE_A && type != DNS_TYPE_AAAA && type != DNS_TYPE_CNAME))
		return 0;
	if (!known) {
		reading->stray++;
		return 0;
	}
	if (type == DNS_TYPE_CNAME) {
		at += DNS_RECORD_HEAD;
		if (name_read(reading, at))
			return 1;
		if (!chain_has(reading, 0, reading->name_hash))
			chain_add(reading, at);
		return 0;
	}
	reading->problem = REASON_DNS_DATA;
	if (length != (type == DNS_TYPE_A ? 4 : 16))
		return 1;
	reading->problem = 0;
	return address_take(reading, at + DNS_RECORD_HEAD, length, read_u32(reading, at + 4));
}

/* Reads header and question. Returns 0, with the question as the first of the chain, or the reason why not. */
static __always_inline int question_read(struct reading *reading, int answer)
{
	const struct dns_header *header = (const struct dns_header *)reading->message;
	int problem;

	if ((bpf_ntohs(header->flags) & (DNS_ANSWER | DNS_OPERATION)) != (answer ? DNS_ANSWER : 0) ||
	    header->questions != bpf_htons(1))
		return REASON_DNS_HEADER;
	reading->chain_length = 0;
	problem = name_read(reading, DNS_HEADER);
	if (problem)
		return problem;
	/* A pointer in the only name there is could lead nowhere but into the header. */
	reading->at = reading->name_end + DNS_QUESTION_TAIL;
	if (reading->at > reading->length)
		return REASON_DNS_SHORT;
	chain_add(reading, DNS_HEADER);
	return 0;
}

/*
 * Reads the records of an answer whose question has been read: the chain and the addresses are its. A record may stand before
 * the one that explains its name, so what was stray is looked at again, as long as the chain grows. Returns 0 or the reason why nothing is believed.
 */
static __always_inline int answer_read(struct reading *reading)
{
	const struct dns_header *header = (const struct dns_header *)reading->message;
	__u32 records = bpf_ntohs(header->answers), first = reading->at;
	struct reading *context = reading;

	if (records > DNS_RECORDS_MAX)
		return REASON_DNS_RECORDS;
	for (int pass = 0; pass < DNS_PASSES_MAX; pass++) {
		__u32 before = reading->chain_length;

		reading->at = first;
		reading->stray = 0;
		reading->address_count = 0;
		reading->problem = 0;
		bpf_loop(records, record_read, &context, 0);
		if (reading->problem)
			return reading->problem;
		if (!reading->stray || reading->chain_length == before)
			return 0;
	}
	return 0;
}

#endif
