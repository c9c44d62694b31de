/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transport checksums (RFC 1071). A packet from a veth usually carries only the sum of its pseudo header, to be
 * completed by hardware that does not exist; a receiver drops what is sent on like that without saying so.
 */
#include "internal.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#define ICMPV6_CHECKSUM_OFFSET 2

static uint64_t sum_bytes(uint64_t sum, const uint8_t *bytes, uint32_t length)
{
	uint16_t word;

	for (; length > 1; bytes += 2, length -= 2) {
		memcpy(&word, bytes, sizeof(word));
		sum += word;
	}
	if (length) {
		word = 0;
		memcpy(&word, bytes, 1);
		sum += word;
	}
	return sum;
}

static uint16_t sum_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static uint64_t sum_pseudo_header(const struct ask *ask, const uint8_t *packet, uint32_t transport_length)
{
	const uint8_t *ip = packet + ask->network_offset;
	int ipv4 = ip[0] >> 4 == 4;
	uint64_t sum = sum_bytes(0, ip + (ipv4 ? 12 : 8), ipv4 ? 8 : 32);

	return sum + htons(ask->protocol) + htons((uint16_t)(transport_length >> 16)) + htons((uint16_t)transport_length);
}

/* Where the IP header says that the packet ends; a link may have padded it. */
static uint32_t packet_end(const struct ask *ask, const uint8_t *packet)
{
	const uint8_t *ip = packet + ask->network_offset;
	uint32_t length = ip[0] >> 4 == 4 ? (uint32_t)(ip[2] << 8 | ip[3]) : (uint32_t)(ip[4] << 8 | ip[5]) + 40;

	if (length < 40 && ask->gso_size)
		return ask->length;
	return ask->network_offset + length <= ask->length ? ask->network_offset + length : ask->length;
}

static int is_fragment(const struct ask *ask, const uint8_t *packet)
{
	const uint8_t *ip = packet + ask->network_offset;

	if (ip[0] >> 4 == 4)
		return ((ip[6] & 0x3f) | ip[7]) != 0;
	if (ip[6] != IPPROTO_FRAGMENT)
		return 0;
	/* An atomic fragment is whole (RFC 6946). */
	return ask->transport_offset < ask->network_offset + 48u || ((ip[42] << 8 | ip[43]) & 0xfff9) != 0;
}

void checksum_complete(const struct ask *ask, uint8_t *packet)
{
	uint32_t end = packet_end(ask, packet), offset, length;
	uint8_t *transport = packet + ask->transport_offset;
	uint16_t sum;

	if (ask->protocol == IPPROTO_TCP)
		offset = TCP_CHECKSUM_OFFSET;
	else if (ask->protocol == IPPROTO_UDP)
		offset = UDP_CHECKSUM_OFFSET;
	else if (ask->protocol == IPPROTO_ICMPV6)
		offset = ICMPV6_CHECKSUM_OFFSET;
	else
		return;	/* ICMP and SCTP are complete when they are sent */
	if (is_fragment(ask, packet) || ask->transport_offset + offset + 2 > end)
		return;	/* a fragment was cut from a completed datagram */
	length = end - ask->transport_offset;
	/* UDP over IPv4 may go without. A packet still to be completed has its pseudo header's sum there, never zero. */
	if (ask->protocol == IPPROTO_UDP && !transport[offset] && !transport[offset + 1])
		return;

	if (ask->gso_size) {
		/* Segmentation completes each segment from the pseudo header's sum. */
		sum = sum_fold(sum_pseudo_header(ask, packet, length));
	} else {
		memset(transport + offset, 0, 2);
		sum = (uint16_t)~sum_fold(sum_bytes(sum_pseudo_header(ask, packet, length), transport, length));
		if (!sum && ask->protocol == IPPROTO_UDP)
			sum = 0xffff;
	}
	memcpy(transport + offset, &sum, sizeof(sum));
}
