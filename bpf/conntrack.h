/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections: one entry per endpoint and connection, found by packets of both directions.
 *
 * The key holds the endpoint's interface, so that an entry of one endpoint means nothing to another. The local address
 * is compared rather than hashed: an endpoint has one a family.
 */
#ifndef SLUICE_CONNTRACK_H
#define SLUICE_CONNTRACK_H

#include "maps.h"
#include "packet.h"

#define SECOND_NS 1000000000ULL

/* Longer than a TCP keep-alive interval, 7,200 s by default (tcp(7)). */
#define ESTABLISHED_NS (8000 * SECOND_NS)
/* As nf_conntrack: a handshake, a closing TCP connection, a UDP or other flow before and after an answer. */
#define OPENING_NS (60 * SECOND_NS)
#define CLOSING_NS (10 * SECOND_NS)
#define UNANSWERED_NS (30 * SECOND_NS)
#define ANSWERED_NS (120 * SECOND_NS)
/* Expiry moves in steps of this, so that a busy connection does not write its entry for each packet. */
#define EXPIRY_STEP_NS (1 * SECOND_NS)

static __always_inline void connection_key_fill(struct connection_key *key, const struct packet *packet, __u32 ifindex,
						enum direction direction)
{
	if (direction == DIRECTION_EGRESS) {
		__builtin_memcpy(key->remote, packet->destination, 16);
		key->remote_port = packet->destination_port;
		key->local_port = packet->source_port;
	} else {
		__builtin_memcpy(key->remote, packet->source, 16);
		key->remote_port = packet->source_port;
		key->local_port = packet->destination_port;
	}
	key->ifindex = ifindex;
	key->protocol = packet->protocol;
}

static __always_inline __u64 connection_lifetime_ns(const struct packet *packet, __u8 flags)
{
	if (flags & CONNECTION_CLOSING)
		return CLOSING_NS;
	if (packet->protocol == IPPROTO_TCP)
		return flags & CONNECTION_REPLIED ? ESTABLISHED_NS : OPENING_NS;
	return flags & CONNECTION_REPLIED ? ANSWERED_NS : UNANSWERED_NS;
}

static __always_inline const __u8 *packet_local(const struct packet *packet, enum direction direction)
{
	return direction == DIRECTION_EGRESS ? packet->source : packet->destination;
}

/*
 * The tracked connection that the packet belongs to, or NULL. A SYN always starts anew: it is judged, also where an
 * older connection used the same ports, and in particular where the other side had opened that one.
 */
static __always_inline struct connection *connection_find(const struct connection_key *key, const struct packet *packet,
							  enum direction direction, __u64 now_ns)
{
	struct connection *found;

	if (packet->opens)
		return NULL;
	found = bpf_map_lookup_elem(&connections, key);
	if (!found || found->expires_ns <= now_ns || !address_equals(found->local, packet_local(packet, direction)))
		return NULL;
	return found;
}

static __always_inline void connection_touch(struct connection *connection, const struct packet *packet,
					     enum direction direction, __u64 now_ns)
{
	__u8 flags = connection->flags;
	__u64 expires_ns;

	if (direction != connection->direction)
		flags |= CONNECTION_REPLIED;
	if (packet->closes)
		flags |= CONNECTION_CLOSING;
	expires_ns = now_ns + connection_lifetime_ns(packet, flags);
	if (flags == connection->flags && expires_ns - connection->expires_ns < EXPIRY_STEP_NS)
		return;
	connection->flags = flags;
	connection->expires_ns = expires_ns;
}

/*
 * Tracks a connection as it was judged: revision, plugin, epoch, peer_identity and direction are the caller's.
 *
 * Returns 0, or -errno when the connection is not tracked: its next packet is judged anew.
 */
static __always_inline long connection_track(const struct connection_key *key, const struct packet *packet,
					     struct connection *connection, __u64 now_ns)
{
	/* A TCP packet without SYN belongs to a connection older than its entry: it has been answered already. */
	__u8 flags = packet->protocol == IPPROTO_TCP && !packet->opens ? CONNECTION_REPLIED : 0;

	if (packet->closes)
		flags |= CONNECTION_CLOSING;
	connection->flags = flags;
	connection->expires_ns = now_ns + connection_lifetime_ns(packet, flags);
	__builtin_memcpy(connection->local, packet_local(packet, connection->direction), 16);
	return bpf_map_update_elem(&connections, key, connection, BPF_ANY);
}

#endif
