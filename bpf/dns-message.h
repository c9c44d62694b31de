/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A DNS message of an endpoint whose messages are read: finding it in its packet, copying it, and what its packet comes to.
 *
 * Its stages are entered when everything else about the packet has been decided, with that in its journey.
 */
#ifndef SLUICE_DNS_MESSAGE_H
#define SLUICE_DNS_MESSAGE_H

#include "dns-parse.h"
#include "engine.h"
#include "failure.h"
#include "leave.h"

/* A DNS message, and what belongs to where it came from. The verdict so far, and what names make of it, is its journey's. */
struct message {
	struct journey *journey;
	const struct packet *packet;
	struct reading *reading;
	struct endpoint *endpoint;
	struct policy_state *policy;
	__u32 offset;		/* of the DNS message in the packet */
	__u32 length;
	int trusted;		/* the resolver is one whose answers teach */
};

/* Fills in the ask of its journey, with the hash of the name that it is about, or 0; the endpoint is known. */
static __always_inline struct ask *message_describe(const struct message *message, enum direction direction, __u64 name)
{
	struct judgement *judgement = &message->journey->judgement;
	const struct packet *packet = message->packet;

	judgement->peer_identity =
		identity_find((const struct address *)(direction == DIRECTION_EGRESS ? packet->destination : packet->source));
	judgement->rule.id = message->journey->rule;
	judgement->rule.plugin = 0;
	judgement->rule.context = CONTEXT_CONNECT;
	return ask_fill(message->journey, message->endpoint, direction, name);
}

/* Shows what became of a message. */
static __always_inline void message_record(const struct message *message, enum direction direction, __u64 name,
					   enum verdict verdict, enum reason reason)
{
	flow_record_write(message_describe(message, direction, name), verdict, reason);
}

/* Fills in what is asked about a message, of a plugin or of the engine itself. */
static __always_inline struct ask *message_ask(struct __sk_buff *skb, const struct message *message, enum direction direction,
					       __u64 name, __u32 plugin)
{
	struct ask *ask = message_describe(message, direction, name);

	ask->plugin = plugin;
	ask->context = CONTEXT_DNS;
	ask_fill_packet(ask, skb, message->packet);
	return ask;
}

/* Whether a message that cannot be read as it is, is a piece of a larger one. */
static __always_inline int message_is_piece(const struct message *message, enum direction direction, int problem)
{
	if (message->packet->protocol == IPPROTO_TCP)
		return problem == REASON_DNS_SEGMENTED;
	return direction == DIRECTION_INGRESS && (problem == REASON_DNS_SHORT || problem == REASON_DNS_LARGE);
}

/*
 * Leaves a piece of a message to the engine, which sends the message on when it has all of it. Returns where there is no engine, or
 * the packet is no piece.
 */
static __always_inline void message_collect(struct __sk_buff *skb, const struct message *message, const enum hook hook, int problem)
{
	const struct journey *journey = message->journey;
	enum direction direction = hook_direction(hook);
	struct name_share *share;

	if (!hook_is_interface(hook))
		return;
	/* A message that the engine has sent is not for it once more. */
	if (journey->failed_open || journey->decided != DECIDED_NOTHING ||
	    !message_is_piece(message, direction, problem) || !plugin_is_on(plugin_find(ABI_PIECES)))
		return;
	share = bpf_map_lookup_elem(&name_shares, &journey->endpoint);
	/* Nobody fills the engine's ring with answers that an endpoint does not wait for. */
	if (direction == DIRECTION_INGRESS && (!share || (__s32)share->queries <= 0))
		return;
	message_ask(skb, message, direction, 0, ABI_PIECES);
	enter_hold(skb);
}

/* The packet's outcome when its message changes nothing. */
static __always_inline int message_end(struct __sk_buff *skb, const struct message *message, const enum hook hook)
{
	struct journey *journey = message->journey;

	if (!journey->denied)
		return packet_pass(skb, journey, journey->reason, hook);
	message_record(message, hook_direction(hook), 0, VERDICT_DENY, journey->reason);
	return drop(skb, journey->reason);
}

/*
 * Finds where the message is. Returns 0 when names have nothing to do with it. length is 0 for a segment of TCP without data.
 */
static __always_inline int message_find(struct __sk_buff *skb, struct message *message, enum direction direction)
{
	const struct packet *packet = message->packet;
	__u32 header = sizeof(struct udphdr);

	if (message->endpoint->flags & ENDPOINT_NAMES) {
		message->trusted =
			bpf_map_lookup_elem(&resolvers, direction == DIRECTION_EGRESS ? packet->destination : packet->source) != NULL;
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

/* The outcome where the endpoint is gone meanwhile: what was decided so far. */
static __always_inline int message_give_up(struct __sk_buff *skb, struct journey *journey, const enum hook hook)
{
	return journey->denied ? deny(skb, &journey->ask, journey->reason) : packet_pass(skb, journey, journey->reason, hook);
}

/* The knowledge of a journey's message before it is looked at. Returns 0 where its endpoint is gone. */
static __always_inline int message_begin(struct __sk_buff *skb, struct message *message, struct journey *journey)
{
	if (!switches.names)
		return 0;
	message->journey = journey;
	message->packet = &journey->packet;
	message->endpoint = bpf_map_lookup_elem(&endpoints, &journey->endpoint);
	message->policy = policy_state();
	return message->endpoint && message->policy;
}

/* Copies the message to its buffer. Returns 0 or the reason why it cannot be read. */
static __always_inline int message_load(struct __sk_buff *skb, struct message *message)
{
	struct reading *reading = message->reading;
	__u32 offset = message->offset;	/* the message may be copied once more, when it was asked about in between */
	__u64 length = message->length;

	if (message->packet->protocol == IPPROTO_UDP) {
		struct udphdr buffer, *udp = packet_read(skb, message->packet->transport_offset, &buffer, sizeof(buffer));

		if (!udp || skb->gso_size || bpf_ntohs(udp->len) < sizeof(*udp) + DNS_HEADER ||
		    bpf_ntohs(udp->len) - sizeof(*udp) > length)
			return REASON_DNS_SHORT;
		length = bpf_ntohs(udp->len) - sizeof(*udp);
	} else {
		__be16 prefix;

		if (length < DNS_LENGTH_PREFIX + DNS_HEADER || bpf_skb_load_bytes(skb, offset, &prefix, sizeof(prefix)) ||
		    bpf_ntohs(prefix) != length - DNS_LENGTH_PREFIX)
			return REASON_DNS_SEGMENTED;
		length -= DNS_LENGTH_PREFIX;
		offset += DNS_LENGTH_PREFIX;
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
	if (bpf_skb_load_bytes(skb, offset, reading->message, length))
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
	const struct packet *packet = message->packet;
	int egress = direction == DIRECTION_EGRESS;

	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->resolver, egress ? packet->destination : packet->source, 16);
	key->endpoint = message->journey->endpoint;
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
