/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Later fragments have no ports: they follow the first one, which the kernels of our age send first. */
#ifndef SLUICE_FRAGMENTS_H
#define SLUICE_FRAGMENTS_H

#include "maps.h"
#include "packet.h"

/* As ip_frag: a datagram whose fragments have not all come after 30 s is given up (net.ipv4.ipfrag_time). */
#define FRAGMENTS_NS (30 * SECOND_NS)

static __always_inline void fragment_key_fill(struct fragment_key *key, const struct packet *packet, __u32 endpoint,
					      enum direction direction)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->source, packet->source, 16);
	__builtin_memcpy(key->destination, packet->destination, 16);
	key->id = packet->fragment_id;
	key->endpoint = endpoint;
	key->protocol = packet->protocol;
	key->direction = direction;
}

#endif
