/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections: one entry per endpoint and connection, found by packets of both directions.
 *
 * A connection without an answer stands in a table of slots, where a newer one may take its place; the first answer moves
 * it to the map of connections. So a flood of new flows costs nobody an established connection, and less than one
 * that is answered. An endpoint has a share of that map: beyond it, its own connections stay in the slots.
 *
 * The key holds the endpoint, so that an entry of one endpoint means nothing to another. The local address is compared
 * rather than hashed: an endpoint has one a family.
 */
#ifndef SLUICE_CONNTRACK_H
#define SLUICE_CONNTRACK_H

#include "counters.h"
#include "maps.h"
#include "packet.h"

#define SECOND_NS 1000000000ULL
/* Expiry moves in steps of this, so that a busy connection does not write its entry for each packet. */
#define EXPIRY_STEP_NS (1 * SECOND_NS)

/* A connection as one packet finds it. */
struct tracking {
	struct connection_key key;
	struct connection copy;		/* of a slot, which another CPU may write at any time */
	struct connection *connection;	/* NULL: not tracked */
	struct opening *slot;		/* where the key may stand; NULL until it was looked for */
	__u64 now_ns;
};

static __always_inline void connection_key_fill(struct connection_key *key, const struct packet *packet, __u32 endpoint,
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
	key->endpoint = endpoint;
	key->protocol = packet->protocol;
}

static __always_inline __u64 connection_lifetime_ns(const struct policy_state *policy, __u8 protocol, __u8 flags)
{
	if (flags & CONNECTION_CLOSING)
		return policy->closing_s * SECOND_NS;
	if (protocol == IPPROTO_TCP)
		return (flags & (CONNECTION_REPLIED | CONNECTION_PICKED_UP) ? policy->established_s : policy->opening_s) * SECOND_NS;
	return (flags & CONNECTION_REPLIED ? policy->answered_s : policy->unanswered_s) * SECOND_NS;
}

static __always_inline const __u8 *packet_local(const struct packet *packet, enum direction direction)
{
	return direction == DIRECTION_EGRESS ? packet->source : packet->destination;
}

static __always_inline int connection_key_equals(const struct connection_key *a, const struct connection_key *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;
	__u32 differ = 0;

	for (int i = 0; i < (int)(sizeof(*a) / sizeof(*x)); i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/* The one slot that a key may stand in: MurmurHash3's mixing of words. */
static __always_inline struct opening *opening_slot(const struct connection_key *key, __u32 seed)
{
	const __u32 *words = (const __u32 *)key;
	__u32 hash = seed;

	for (int i = 0; i < (int)(sizeof(*key) / sizeof(*words)); i++) {
		__u32 word = words[i] * 0xcc9e2d51;

		word = (word << 15) | (word >> 17);
		hash ^= word * 0x1b873593;
		hash = ((hash << 13) | (hash >> 19)) * 5 + 0xe6546b64;
	}
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash &= OPENINGS - 1;
	return bpf_map_lookup_elem(&openings, &hash);
}

static __always_inline int connection_holds(const struct connection *connection, const struct tracking *tracking,
					    const struct packet *packet, enum direction direction)
{
	return connection->expires_ns > tracking->now_ns &&
	       address_equals(connection->local, packet_local(packet, direction));
}

/*
 * Finds the tracked connection that the packet belongs to. A SYN always starts anew: it is judged, also where an older
 * connection used the same ports, and in particular where the other side had opened that one. An answered connection that
 * is over keeps its place in the map until somebody needs it: a newer one with its ports stands in the slot.
 */
static __always_inline void connection_find(struct tracking *tracking, const struct policy_state *policy,
					    const struct packet *packet, enum direction direction)
{
	struct connection *found;
	int same;

	tracking->connection = NULL;
	tracking->slot = NULL;
	if (packet->opens)
		return;
	found = bpf_map_lookup_elem(&connections, &tracking->key);
	if (found && connection_holds(found, tracking, packet, direction)) {
		tracking->connection = found;
		return;
	}
	tracking->slot = opening_slot(&tracking->key, policy->hash_seed);
	if (!tracking->slot)	/* not possible: the index is within the array */
		return;
	bpf_spin_lock(&tracking->slot->lock);
	same = connection_key_equals(&tracking->slot->key, &tracking->key);
	if (same)
		tracking->copy = tracking->slot->connection;
	bpf_spin_unlock(&tracking->slot->lock);
	if (same && connection_holds(&tracking->copy, tracking, packet, direction))
		tracking->connection = &tracking->copy;
}

/* Whether the endpoint may have one more tracked connection; counts it. */
static __always_inline int connection_share_take(const struct policy_state *policy, __u32 endpoint)
{
	struct connection_share *share = bpf_map_lookup_elem(&shares, &endpoint), first = { .connections = 1 };

	if (!share) {
		bpf_map_update_elem(&shares, &endpoint, &first, BPF_NOEXIST);
		return 1;
	}
	if (share->connections >= policy->connections_share)
		return 0;
	__sync_fetch_and_add(&share->connections, 1);
	return 1;
}

/* Writes a connection that stands in a slot, or shall. Counts one that it takes the place of before its time. */
static __always_inline void opening_write(struct __sk_buff *skb, struct tracking *tracking,
					  const struct connection *connection)
{
	int lost;

	bpf_spin_lock(&tracking->slot->lock);
	lost = tracking->slot->connection.expires_ns > tracking->now_ns &&
	       !connection_key_equals(&tracking->slot->key, &tracking->key);
	tracking->slot->key = tracking->key;
	tracking->slot->connection = *connection;
	bpf_spin_unlock(&tracking->slot->lock);
	if (lost)
		count(skb, REASON_FAIL_OPENING_LOST);
}

/* Empties the slot that a connection has left, unless another one has taken it. */
static __always_inline void opening_clear(struct tracking *tracking)
{
	bpf_spin_lock(&tracking->slot->lock);
	if (connection_key_equals(&tracking->slot->key, &tracking->key))
		tracking->slot->connection.expires_ns = 0;
	bpf_spin_unlock(&tracking->slot->lock);
}

/* Moves an answered connection to the map of connections, where the endpoint's share allows. */
static __always_inline void connection_promote(struct __sk_buff *skb, struct tracking *tracking,
					       const struct policy_state *policy, const struct connection *connection)
{
	if (!connection_share_take(policy, tracking->key.endpoint)) {
		count(skb, REASON_FAIL_CONNECTION_SHARE);
		opening_write(skb, tracking, connection);
	} else if (bpf_map_update_elem(&connections, &tracking->key, connection, BPF_ANY)) {
		count(skb, REASON_FAIL_CONNTRACK_FULL);
		opening_write(skb, tracking, connection);
	} else {
		opening_clear(tracking);
	}
}

/* Notes a packet of a connection that was found. */
static __always_inline void connection_touch(struct __sk_buff *skb, struct tracking *tracking,
					     const struct policy_state *policy, const struct packet *packet,
					     enum direction direction)
{
	struct connection *connection = tracking->connection;
	int answer = direction != connection->direction;
	__u8 flags = connection->flags;
	__u64 expires_ns;

	if (answer)
		flags |= CONNECTION_REPLIED;
	if (packet->closes)
		flags |= CONNECTION_CLOSING;
	expires_ns = tracking->now_ns + connection_lifetime_ns(policy, packet->protocol, flags);
	if (flags == connection->flags && expires_ns - connection->expires_ns < EXPIRY_STEP_NS && !(answer && tracking->slot))
		return;
	connection->flags = flags;
	connection->expires_ns = expires_ns;
	if (!tracking->slot)
		return;		/* written in place */
	if (answer)
		connection_promote(skb, tracking, policy, connection);
	else
		opening_write(skb, tracking, connection);
}

/* How a connection was judged. */
struct judged {
	__u32 revision;
	__u32 epoch;
	__u32 plugin;
	__u32 peer_identity;
	__u8 direction;		/* enum direction: who opened it */
	__u8 unread;		/* what it says first is to be read, see hello.h */
	__u8 context;		/* enum context */
	__u8 path;		/* enum flow_path */
};

/* Tracks a connection as it was judged. One that was tracked before keeps its state and its place. */
static __always_inline void connection_track(struct __sk_buff *skb, struct tracking *tracking,
					     const struct policy_state *policy, const struct packet *packet,
					     const struct judged *judged, enum direction direction)
{
	struct connection *connection = tracking->connection;

	if (!connection) {
		connection = &tracking->copy;
		__builtin_memset(connection, 0, sizeof(*connection));
		connection->direction = judged->direction;
		connection->path = judged->path;
		/* Belongs to a connection older than its entry. */
		if (packet->protocol == IPPROTO_TCP && !packet->opens)
			connection->flags = CONNECTION_PICKED_UP;
		__builtin_memcpy(connection->local, packet_local(packet, direction), 16);
		if (packet->opens)	/* what used these ports before is over */
			bpf_map_delete_elem(&connections, &tracking->key);
		if (!tracking->slot)
			tracking->slot = opening_slot(&tracking->key, policy->hash_seed);
		if (!tracking->slot)	/* not possible: the index is within the array */
			return;
	}
	if (!judged->unread) {
		connection->flags &= ~(CONNECTION_UNREAD | CONNECTION_DECIDED | CONNECTION_BEGUN | CONNECTION_READ);
	} else if (!(connection->flags & (CONNECTION_UNREAD | CONNECTION_READ))) {
		connection->flags |= packet->opens ? CONNECTION_UNREAD : CONNECTION_UNREAD | CONNECTION_PICKED_UP;
		connection->sequence = 0;
	}
	connection->revision = judged->revision;
	connection->epoch = judged->epoch;
	connection->plugin = judged->plugin;
	connection->context = judged->context;
	connection->peer_identity = judged->peer_identity;
	if (packet->closes)
		connection->flags |= CONNECTION_CLOSING;
	if (direction != connection->direction)
		connection->flags |= CONNECTION_REPLIED;
	connection->expires_ns = tracking->now_ns + connection_lifetime_ns(policy, packet->protocol, connection->flags);
	if (!tracking->slot)
		return;		/* written in place */
	if (direction != connection->direction)
		connection_promote(skb, tracking, policy, connection);
	else
		opening_write(skb, tracking, connection);
}

#endif
