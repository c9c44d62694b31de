/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define ETHERNET 14
#define TAG 4
#define IPV4 20
#define IPV6 40
#define EXTENSION 8

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

int address_is_v4(const struct address *address)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(address->bytes, mapped, sizeof(mapped));
}

static uint32_t transport_build(uint8_t *bytes, const struct segment *segment)
{
	uint32_t header = 8;

	if (segment->fragment_offset)	/* the ports were in the first one */
		header = 0;
	else if (segment->protocol == IPPROTO_TCP)
		header = 20;
	else if (segment->protocol == IPPROTO_SCTP)
		header = 12;
	memset(bytes, 0, header);
	if (header && segment->protocol != IPPROTO_ICMP && segment->protocol != IPPROTO_ICMPV6) {
		put16(bytes, segment->source_port);
		put16(bytes + 2, segment->destination_port);
	}
	if (header == 20) {
		put32(bytes + 4, segment->sequence);
		put32(bytes + 8, segment->acknowledged);
		bytes[12] = 0x50;
		bytes[13] = segment->flags;
		put16(bytes + 14, 0xffff);
	} else if (header && segment->protocol == IPPROTO_UDP) {
		put16(bytes + 4, 8 + segment->payload_length);
	} else if (header && (segment->protocol == IPPROTO_ICMP || segment->protocol == IPPROTO_ICMPV6)) {
		bytes[0] = segment->type;
		bytes[1] = segment->code;
		put16(bytes + 4, segment->source_port);
	}
	memcpy(bytes + header, segment->payload, segment->payload_length);
	return header + segment->payload_length;
}

static uint32_t ipv4_build(uint8_t *bytes, const struct segment *segment)
{
	uint32_t header = IPV4 + 4u * segment->extensions, length;
	uint32_t sum = 0;

	memset(bytes, 0, header);
	memset(bytes + IPV4, 1, header - IPV4);
	length = header + transport_build(bytes + header, segment);
	bytes[0] = (uint8_t)(0x40 | header / 4);
	put16(bytes + 2, length);
	put16(bytes + 4, segment->fragment_id);
	put16(bytes + 6, segment->fragment_offset / 8 | (segment->more_fragments ? 0x2000 : 0));
	bytes[8] = segment->hop_limit;
	bytes[9] = segment->protocol;
	memcpy(bytes + 12, segment->source.bytes + 12, 4);
	memcpy(bytes + 16, segment->destination.bytes + 12, 4);
	for (uint32_t i = 0; i < header; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	put16(bytes + 10, ~(sum + (sum >> 16)));
	return length;
}

static uint32_t ipv6_build(uint8_t *bytes, const struct segment *segment)
{
	static const uint8_t numbers[] = { IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING, IPPROTO_AH };
	int fragmented = segment->fragment_offset || segment->more_fragments;
	uint32_t at = IPV6, next = 6;

	memset(bytes, 0, IPV6);
	bytes[0] = 0x60;
	bytes[7] = segment->hop_limit;
	memcpy(bytes + 8, segment->source.bytes, 16);
	memcpy(bytes + 24, segment->destination.bytes, 16);
	for (uint32_t i = 0; i < segment->extensions + (uint32_t)fragmented; i++, at += EXTENSION) {
		memset(bytes + at, 0, EXTENSION);
		bytes[next] = i == segment->extensions ? IPPROTO_FRAGMENT : numbers[i % sizeof(numbers)];
		next = at;
		if (i == segment->extensions) {
			put16(bytes + at + 2, segment->fragment_offset | segment->more_fragments);
			put32(bytes + at + 4, segment->fragment_id);
		}
	}
	bytes[next] = segment->protocol;
	at += transport_build(bytes + at, segment);
	put16(bytes + 4, at - IPV6);
	return at;
}

uint32_t frame_network(uint8_t *bytes, const struct segment *segment)
{
	return address_is_v4(&segment->source) ? ipv4_build(bytes, segment) : ipv6_build(bytes, segment);
}

uint32_t frame_build(uint8_t *frame, const struct segment *segment)
{
	static const uint8_t link[12] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2 };
	uint32_t at = sizeof(link);

	memcpy(frame, link, sizeof(link));
	for (int i = 0; i < segment->tags; i++, at += TAG) {
		put16(frame + at, i == 0 && segment->tags > 1 ? 0x88a8 : 0x8100);
		put16(frame + at + 2, 5u + (uint32_t)i);
	}
	put16(frame + at, address_is_v4(&segment->source) ? 0x0800 : 0x86dd);
	return at + 2 + frame_network(frame + at + 2, segment);
}

uint32_t frame_spoil(uint8_t *frame, uint32_t length, struct random *random)
{
	uint32_t headers = length < 80 ? length : 80, at;

	switch (random_below(random, 6)) {
	case 0:		/* a bit of the headers */
		at = 12 + random_below(random, headers > 12 ? headers - 12 : 1);
		frame[at] ^= (uint8_t)(1u << random_below(random, 8));
		return length;
	case 1:		/* a byte anywhere */
		frame[12 + random_below(random, length > 12 ? length - 12 : 1)] = (uint8_t)random_next(random);
		return length;
	case 2:		/* cut */
		at = ETHERNET + random_below(random, length > ETHERNET ? length - ETHERNET : 1);
		return at;
	case 3:		/* padded */
		at = random_below(random, 40);
		if (length + at > FRAME_MAX)
			return length;
		memset(frame + length, (int)random_below(random, 256), at);
		return length + at;
	case 4:		/* a length that lies */
		at = ETHERNET + (frame[12] == 0x08 ? 2 : 4);
		if (at + 2 <= length)
			put16(frame + at, random_percent(random, 50) ? random_below(random, 120) : random_below(random, 65536));
		return length;
	default: {	/* where a header says how long it is: IPv4, TCP behind either, UDP behind either */
		static const uint8_t places[] = { 0, IPV4 + 12, IPV6 + 12, IPV4 + 5, IPV6 + 5 };

		at = ETHERNET + RANDOM_OF(random, places);
		if (at < length)
			frame[at] = (uint8_t)random_next(random);
		return length;
	}
	}
}
