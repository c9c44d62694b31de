/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of bpf/dns-parse.h in user space, under libFuzzer and sanitizers: the verifier proves that it stays in its buffer, this
 * that it stays in each field of it, that it ends, and that what it takes over is what a message can hold.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Of packet.h, whose assembler is not this machine's, only this is needed. */
#define SLUICE_PACKET_H
static __always_inline void address_map_ipv4(__u8 *address, __be32 ipv4)
{
	memset(address, 0, 10);
	memset(address + 10, 0xff, 2);
	memcpy(address + 12, &ipv4, sizeof(ipv4));
}

#include "../../../bpf/dns-parse.h"

static struct reading reading;
/* A pattern that every suffix's hash finds: nearly all of them are collisions. */
static struct name_pattern pattern = { .exact = 300, .wildcard = 301, .length = 13, .name = "\7example\3com" };
static struct counter counter;

void *bpf_map_lookup_elem(const void *map, const void *key)
{
	(void)key;
	if (map == &name_patterns)
		return &pattern;
	return map == &counters ? (void *)&counter : NULL;
}

long bpf_loop(unsigned int turns, void *turn, void *context, unsigned long long flags)
{
	long (*call)(__u32, struct reading **) = (long (*)(__u32, struct reading **))turn;

	(void)flags;
	for (unsigned int i = 0; i < turns; i++)
		if (call(i, context))
			return i + 1;
	return turns;
}

static void require(int holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "not so: %s\n", what);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int problem;

	if (size < DNS_HEADER || size > DNS_MESSAGE_MAX)
		return 0;
	memcpy(reading.message, data, size);
	reading.length = size;
	problem = question_read(&reading, 1);
	if (!problem) {
		require(reading.at <= size, "the question ends in the message");
		problem = answer_read(&reading);
	}
	require(reading.chain_length <= DNS_CHAIN_MAX && reading.address_count <= DNS_RECORDS_MAX, "everything has its place");
	require(reading.name_length <= ABI_NAME_BYTES - 1 && reading.labels <= LABELS_MAX, "a name is no longer than names are");
	if (problem)
		return 0;
	require(reading.at <= size, "the records end in the message");
	require(reading.chain_length > 0, "the question is the first of the chain");
	/* Each address takes a pointer, its record's head and four bytes at least. */
	require(reading.address_count * (1 + DNS_RECORD_HEAD + 4) <= size, "no address comes from nowhere");
	return 0;
}
