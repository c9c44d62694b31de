/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A DNS message of an endpoint whose messages are read: finding it in its packet, copying it, and what its packet comes to.
 *
 * Its programs are entered by tail call when everything else about the packet has been decided, with that in cb.
 */
#ifndef SLUICE_MESSAGE_H
#define SLUICE_MESSAGE_H

#include "decided.h"
#include "dns.h"
#include "endpoint.h"

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
	int trusted;		/* the resolver is one whose answers teach */
};

static __always_inline int message_denied(const struct message *message)
{
	return message->reason >= REASON_HELD;
}

/* What is to be said of a message, with the hash of the name that it asks for, or 0. NULL is not possible. */
static __always_inline struct ask *message_describe(const struct message *message, enum direction direction, __u64 name)
{
	const struct packet *packet = &message->packet;
	int egress = direction == DIRECTION_EGRESS;
	__u32 zero = 0, peer, own = message->endpoint ? message->endpoint->identity : 0;
	struct ask *ask = bpf_map_lookup_elem(&questions, &zero);

	if (!ask)	/* not possible: an array map's first entry */
		return NULL;
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
	return ask;
}

/* Shows what became of a message. */
static __always_inline void message_record(const struct message *message, enum direction direction, __u64 name,
					   enum verdict verdict, enum reason reason)
{
	struct ask *ask = message_describe(message, direction, name);

	if (ask)
		flow_record_write(ask, verdict, reason);
}

/* Fills in the question to a plugin, or to the engine itself, about a message. NULL is not possible. */
static __always_inline struct ask *message_question(struct __sk_buff *skb, const struct message *message,
						    enum direction direction, __u64 name, __u32 plugin)
{
	struct ask *ask = message_describe(message, direction, name);

	if (!ask)
		return NULL;
	ask->plugin = plugin;
	ask->context = CONTEXT_DNS;
	ask_fill_packet(ask, skb, &message->packet);
	return ask;
}

/*
 * Leaves a piece of a message to the engine, which sends the message on when it has all of it. Returns where there is no engine, or
 * the packet is no piece.
 */
static __always_inline void message_collect(struct __sk_buff *skb, const struct message *message, enum direction direction,
					    const enum place place, int problem, enum decided decided)
{
	int piece = message->packet.protocol == IPPROTO_TCP ? problem == REASON_DNS_SEGMENTED
							   : direction == DIRECTION_INGRESS && (problem == REASON_DNS_SHORT ||
												problem == REASON_DNS_LARGE);
	struct name_share *share = bpf_map_lookup_elem(&name_shares, &message->id);
	struct plugin_state *state = plugin_find(ABI_PIECES);

	/* What the engine has sent is not for it once more. */
	if (!piece || place != PLACE_INTERFACE || skb->cb[3] || decided != DECIDED_NOTHING || !state || state->status != PLUGIN_ON)
		return;
	/* Nobody fills the engine's ring with answers that an endpoint does not wait for. */
	if (direction == DIRECTION_INGRESS && (!share || (__s32)share->queries <= 0))
		return;
	if (message_question(skb, message, direction, 0, ABI_PIECES))
		bpf_tail_call(skb, &hold_stage, 0);
}

/* The packet's outcome when its message changes nothing. */
static __always_inline int message_end(struct __sk_buff *skb, const struct message *message, enum direction direction)
{
	if (!message_denied(message))
		return pass(skb, message->reason);
	message_record(message, direction, 0, VERDICT_DENY, message->reason);
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
	if (!message->endpoint || !message->policy)
		return 0;
	if (message->endpoint->flags & ENDPOINT_NAMES) {
		message->trusted = bpf_map_lookup_elem(&resolvers, resolver) != NULL;
		if (!message->trusted && direction == DIRECTION_INGRESS)
			count_bytes(REASON_DNS_UNTRUSTED, 0);
	}
	if (!message->trusted && !message->endpoint->dns_plugin)
		return 0;
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

/* The name, for people to read. */
static __always_inline void name_note(struct reading *reading)
{
	__u64 hash = reading->name_hash;

	if (!bpf_map_lookup_elem(&dns_names, &hash))
		bpf_map_update_elem(&dns_names, &hash, reading->name, BPF_ANY);
}

#endif
