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

#include "account.h"
#include "maps.h"
#include "packet.h"
#include "plugin.h"

/* Expiry moves in steps of this, so that a busy connection does not write its entry for each packet. */
#define EXPIRY_STEP_NS (1 * SECOND_NS)

/* A connection as one packet finds it. What it points to outlives the program: the record of a journey, or its stack. */
struct tracking {
	const struct packet *packet;
	const struct policy_state *policy;
	struct connection_key *key;
	struct connection *copy;	/* of a slot, which another CPU may write at any time */
	struct connection *connection;	/* NULL: not tracked */
	struct opening *slot;		/* where the key may stand; NULL until it was looked for */
	__u64 now_ns;
	__u32 index;			/* of the slot */
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

static __always_inline int connection_key_equals(const struct connection_key *a, const struct connection_key *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;
	__u32 differ = 0;

	for (int i = 0; i < (int)(sizeof(*a) / sizeof(*x)); i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/* Finds the one slot that the key may stand in: MurmurHash3's mixing of words. */
static __always_inline void opening_find(struct tracking *tracking)
{
	const __u32 *words = (const __u32 *)tracking->key;
	__u32 hash = tracking->policy->hash_seed;

	for (int i = 0; i < (int)(sizeof(*tracking->key) / sizeof(*words)); i++) {
		__u32 word = words[i] * 0xcc9e2d51;

		word = (word << 15) | (word >> 17);
		hash ^= word * 0x1b873593;
		hash = ((hash << 13) | (hash >> 19)) * 5 + 0xe6546b64;
	}
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	tracking->index = hash & (OPENINGS - 1);
	tracking->slot = bpf_map_lookup_elem(&openings, &tracking->index);
}

static __always_inline int connection_holds(const struct connection *connection, const struct tracking *tracking,
					    enum direction direction)
{
	return connection->expires_ns > tracking->now_ns &&
	       address_equals(connection->local, packet_local(tracking->packet, direction));
}

/*
 * Finds the tracked connection that has the key. An answered connection that is over keeps its place in the map until somebody
 * needs it: a newer one with its ports stands in the slot.
 */
static __always_inline void connection_seek(struct tracking *tracking, enum direction direction)
{
	struct connection *found = bpf_map_lookup_elem(&connections, tracking->key);
	int same;

	if (found && connection_holds(found, tracking, direction)) {
		tracking->connection = found;
		return;
	}
	opening_find(tracking);
	if (!tracking->slot)	/* not possible: the index is within the array */
		return;
	bpf_spin_lock(&tracking->slot->lock);
	same = connection_key_equals(&tracking->slot->key, tracking->key);
	if (same)
		*tracking->copy = tracking->slot->connection;
	bpf_spin_unlock(&tracking->slot->lock);
	if (same && connection_holds(tracking->copy, tracking, direction))
		tracking->connection = tracking->copy;
}

/*
 * Finds the tracked connection that the packet belongs to. A SYN always starts anew: it is judged, also where an older
 * connection used the same ports, and in particular where the other side had opened that one.
 */
static __always_inline void connection_find(struct tracking *tracking, enum direction direction)
{
	if (!tracking->packet->opens)
		connection_seek(tracking, direction);
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
	       !connection_key_equals(&tracking->slot->key, tracking->key);
	tracking->slot->key = *tracking->key;
	tracking->slot->connection = *connection;
	bpf_spin_unlock(&tracking->slot->lock);
	if (lost)
		count(skb, REASON_FAIL_OPENING_LOST);
}

/* Empties the slot that a connection has left, unless another one has taken it. */
static __always_inline void opening_clear(struct tracking *tracking)
{
	bpf_spin_lock(&tracking->slot->lock);
	if (connection_key_equals(&tracking->slot->key, tracking->key))
		tracking->slot->connection.expires_ns = 0;
	bpf_spin_unlock(&tracking->slot->lock);
}

/* Moves an answered connection to the map of connections, where the endpoint's share allows. */
static __always_inline void connection_promote(struct __sk_buff *skb, struct tracking *tracking,
					       const struct connection *connection)
{
	if (!connection_share_take(tracking->policy, tracking->key->endpoint)) {
		count(skb, REASON_FAIL_CONNECTION_SHARE);
		opening_write(skb, tracking, connection);
	} else if (bpf_map_update_elem(&connections, tracking->key, connection, BPF_ANY)) {
		count(skb, REASON_FAIL_CONNTRACK_FULL);
		opening_write(skb, tracking, connection);
	} else {
		opening_clear(tracking);
	}
}

/*
 * Notes a packet in a connection: flags that are new, and until when it holds. Returns whether that changed more than the time
 * by less than a step, which nobody writes.
 */
static __always_inline int connection_renew(struct connection *connection, const struct tracking *tracking, __u8 flags)
{
	__u64 expires_ns = tracking->now_ns + connection_lifetime_ns(tracking->policy, tracking->key->protocol, flags);

	if (flags == connection->flags && expires_ns - connection->expires_ns < EXPIRY_STEP_NS)
		return 0;
	connection->flags = flags;
	connection->expires_ns = expires_ns;
	return 1;
}

/* Notes a packet of a connection that was found. */
static __always_inline void connection_touch(struct __sk_buff *skb, struct tracking *tracking, enum direction direction)
{
	struct connection *connection = tracking->connection;
	int answer = direction != connection->direction, changed;

	changed = connection_renew(connection, tracking,
				   connection->flags | (answer ? CONNECTION_REPLIED : 0) |
					   (tracking->packet->closes ? CONNECTION_CLOSING : 0));
	if (!tracking->slot)
		return;		/* written in place */
	if (answer)
		connection_promote(skb, tracking, connection);
	else if (changed)
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
	__u8 path;		/* enum flow_path bits */
	__u32 service;		/* as struct connection has them */
	struct translation other;
};

/* A connection that is to be tracked for the first time: what used its ports before is over. */
static __always_inline int connection_make(struct tracking *tracking, const struct judged *judged, enum direction direction)
{
	struct connection *connection = tracking->copy;

	__builtin_memset(connection, 0, sizeof(*connection));
	connection->direction = judged->direction;
	connection->path = judged->path;
	connection->service = judged->service;
	connection->other = judged->other;
	/* Belongs to a connection older than its entry. */
	if (tracking->packet->protocol == IPPROTO_TCP && !tracking->packet->opens)
		connection->flags = CONNECTION_PICKED_UP;
	__builtin_memcpy(connection->local, packet_local(tracking->packet, direction), 16);
	if (tracking->packet->opens)
		bpf_map_delete_elem(&connections, tracking->key);
	if (!tracking->slot)
		opening_find(tracking);
	tracking->connection = connection;
	return tracking->slot != NULL;	/* always: the index is within the array */
}

/* Tracks a connection as it was judged. One that was tracked before keeps its state and its place. */
static __always_inline void connection_track(struct __sk_buff *skb, struct tracking *tracking, const struct judged *judged,
					     enum direction direction)
{
	const struct packet *packet = tracking->packet;
	struct connection *connection;

	if (!tracking->connection && !connection_make(tracking, judged, direction))
		return;
	connection = tracking->connection;
	if (!judged->unread) {
		connection->flags &= ~(CONNECTION_UNREAD | CONNECTION_DECIDED | CONNECTION_BEGUN | CONNECTION_READ);
	} else if (!(connection->flags & (CONNECTION_UNREAD | CONNECTION_READ))) {
		connection->flags |= packet->opens ? CONNECTION_UNREAD : CONNECTION_UNREAD | CONNECTION_PICKED_UP;
		connection->read_to = 0;
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
	connection->expires_ns =
		tracking->now_ns + connection_lifetime_ns(tracking->policy, packet->protocol, connection->flags);
	if (!tracking->slot)
		return;		/* written in place */
	if (direction != connection->direction)
		connection_promote(skb, tracking, connection);
	else
		opening_write(skb, tracking, connection);
}

/* Whether the plugin that allowed the connection still is the one that would. */
static __always_inline int connection_is_current(const struct connection *connection)
{
	struct plugin_state *plugin;

	/* A hello that was read once is gone, and requests are not the kernel's to see: what was decided holds while policy asks the same plugin. */
	if (!connection->plugin || (connection->flags & CONNECTION_READ) || connection->context == CONTEXT_HTTP)
		return 1;
	plugin = plugin_find(connection->plugin);
	return plugin_is_on(plugin) && plugin->epoch == connection->epoch;
}

#endif
