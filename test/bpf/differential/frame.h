/* SPDX-License-Identifier: Apache-2.0 */
/* Building packets from fields, and spoiling them. */
#ifndef DIFFERENTIAL_FRAME_H
#define DIFFERENTIAL_FRAME_H

#include "random.h"

#include <stdint.h>

#define FRAME_MAX 3400
#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_PSH 8
#define TCP_ACK 16
#define TCP_URG 32

/* 16 bytes, IPv4 mapped. */
struct address {
	uint8_t bytes[16];
};

struct segment {
	struct address source, destination;
	uint8_t protocol;
	uint8_t flags;		/* TCP */
	uint8_t type, code;	/* ICMP */
	uint8_t hop_limit;
	uint8_t extensions;	/* IPv6 headers, or words of IPv4 options, before the transport header */
	uint8_t tags;		/* of VLANs */
	uint16_t source_port, destination_port;	/* host order; of ICMP echo the identifier */
	uint32_t sequence, acknowledged;
	uint16_t fragment_id;
	uint16_t fragment_offset;	/* bytes */
	uint8_t more_fragments;
	const uint8_t *payload;
	uint32_t payload_length;
};

int address_is_v4(const struct address *address);
/* Writes the packet as it should be; returns its length. */
uint32_t frame_build(uint8_t *frame, const struct segment *segment);
/* From the IP header on; what an ICMP error quotes. */
uint32_t frame_network(uint8_t *bytes, const struct segment *segment);
/* Flips, cuts, lengthens, or lies about a length; returns the new length. */
uint32_t frame_spoil(uint8_t *frame, uint32_t length, struct random *random);

#endif
