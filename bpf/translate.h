/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections that go to a backend: their packets get its address in place of the one that they were sent to, and lose it on the way
 * back.
 *
 * So far the stage route opens such connections, over TCP, for rules about HTTP; what rewrites a packet knows UDP and SCTP for the stage
 * that will translate any Service.
 *
 * Such a connection stands twice in connections and translations, under each of its two addresses. TCP and UDP have a checksum over
 * addresses and ports; that of SCTP is over its ports only, and over all that it carries: those ports stay.
 */
#ifndef SLUICE_TRANSLATE_H
#define SLUICE_TRANSLATE_H

#include "backends.h"
#include "failure.h"

#define IPV4_CHECKSUM_OFFSET 10
#define TCP_CHECKSUM_OFFSET 16
#define UDP_CHECKSUM_OFFSET 6

/* One end of a packet, and what is to stand there instead. */
struct exchange {
	__u32 address_at;
	__u32 port_at;
	__u32 checksum_at;
	__u64 checksum_flags;
	__be32 before[4];
	__be32 after[4];
	__be16 port_before;
	__be16 port_after;
};

/* Of the destination on the way out, of the source on the way back. */
static __always_inline void exchange_fill(struct exchange *exchange, const struct packet *packet, const struct translation *to,
					  enum direction direction)
{
	int egress = direction == DIRECTION_EGRESS;
	__u32 network = packet->network_offset, transport = packet->transport_offset;

	if (packet_is_ipv4(packet))
		exchange->address_at = network + (egress ? offsetof(struct iphdr, daddr) : offsetof(struct iphdr, saddr));
	else
		exchange->address_at = network + (egress ? offsetof(struct ipv6hdr, daddr) : offsetof(struct ipv6hdr, saddr));
	/* The same places in each of the protocols. */
	exchange->port_at = transport + (egress ? offsetof(struct udphdr, dest) : offsetof(struct udphdr, source));
	exchange->checksum_at = transport + (packet->protocol == IPPROTO_TCP ? TCP_CHECKSUM_OFFSET : UDP_CHECKSUM_OFFSET);
	exchange->checksum_flags = packet->protocol == IPPROTO_TCP ? 0 : BPF_F_MARK_MANGLED_0;	/* UDP may have none */
	__builtin_memcpy(exchange->before, egress ? packet->destination : packet->source, 16);
	__builtin_memcpy(exchange->after, to->address, 16);
	exchange->port_before = egress ? packet->destination_port : packet->source_port;
	exchange->port_after = to->port;
}

static __always_inline int exchange_address(struct __sk_buff *skb, const struct exchange *exchange, const struct packet *packet)
{
	int summed = packet->protocol != IPPROTO_SCTP;
	__u64 flags = exchange->checksum_flags | BPF_F_PSEUDO_HDR;

	if (packet_is_ipv4(packet)) {
		if (summed && bpf_l4_csum_replace(skb, exchange->checksum_at, exchange->before[3], exchange->after[3], flags | 4))
			return 0;
		return !bpf_l3_csum_replace(skb, packet->network_offset + IPV4_CHECKSUM_OFFSET, exchange->before[3],
					    exchange->after[3], 4) &&
		       !bpf_skb_store_bytes(skb, exchange->address_at, &exchange->after[3], 4, 0);
	}
	if (summed) {
		__be32 before[4], after[4];
		__s64 difference;

		__builtin_memcpy(before, exchange->before, sizeof(before));
		__builtin_memcpy(after, exchange->after, sizeof(after));
		difference = bpf_csum_diff(before, sizeof(before), after, sizeof(after), 0);
		if (bpf_l4_csum_replace(skb, exchange->checksum_at, 0, difference, flags))
			return 0;
	}
	return !bpf_skb_store_bytes(skb, exchange->address_at, exchange->after, sizeof(exchange->after), 0);
}

/* Writes another address and port into a packet. Returns 0 if that is not possible: nothing may be sent then. */
static __always_inline int packet_translate(struct __sk_buff *skb, const struct packet *packet, const struct translation *to,
					    enum direction direction)
{
	struct exchange exchange;

	exchange_fill(&exchange, packet, to, direction);
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP &&
	    (packet->protocol != IPPROTO_SCTP || exchange.port_before != exchange.port_after))
		return 0;
	if (!exchange_address(skb, &exchange, packet))
		return 0;
	if (packet->protocol == IPPROTO_SCTP)
		return 1;
	return !bpf_l4_csum_replace(skb, exchange.checksum_at, exchange.port_before, exchange.port_after,
				    exchange.checksum_flags | sizeof(exchange.port_after)) &&
	       !bpf_skb_store_bytes(skb, exchange.port_at, &exchange.port_after, sizeof(exchange.port_after), 0);
}

/* The same for every SYN of a connection: one that is sent again must not go elsewhere. */
static __always_inline __u32 packet_spread(const struct packet *packet, __u32 seed)
{
	const __u32 *source = (const __u32 *)packet->source;
	__u32 hash = (source[3] ^ seed) * 0x85ebca6b ^ ((__u32)packet->source_port << 16 | packet->destination_port) * 0xc2b2ae35;

	hash ^= hash >> 15;
	hash *= 0x27d4eb2f;
	return hash ^ hash >> 13;
}

/* Tracks what the packet opens as its journey was judged, with this path; the journey has its key afterwards. */
static __always_inline void journey_track(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy, __u8 path)
{
	struct tracking tracking;

	journey->judged.path = path;
	tracking_begin(&tracking, journey, policy, DIRECTION_EGRESS);
	connection_track(skb, &tracking, &journey->judged, DIRECTION_EGRESS);
}

/* Opens a connection to a backend: known by both of its addresses from here on. */
static __always_inline int route_open(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
				      const struct translation *backend)
{
	struct packet *packet = &journey->packet;
	struct translation service;

	journey_track(skb, journey, policy, FLOW_PATH_TRANSLATED);
	if (bpf_map_update_elem(&translations, &journey->key, backend, BPF_ANY))
		return deny(skb, &journey->ask, REASON_FAIL_CONNTRACK_FULL);
	if (!packet_translate(skb, packet, backend, DIRECTION_EGRESS))
		return deny(skb, &journey->ask, REASON_DROP_MALFORMED);
	translation_fill(&service, packet->destination, packet->destination_port);
	__builtin_memcpy(packet->destination, backend->address, 16);
	packet->destination_port = backend->port;
	journey_track(skb, journey, policy, FLOW_PATH_TRANSLATED);
	if (bpf_map_update_elem(&translations, &journey->key, &service, BPF_ANY))
		return deny(skb, &journey->ask, REASON_FAIL_CONNTRACK_FULL);
	return pass(skb, REASON_PASS_ROUTED);
}

/* Sends a connection to a backend of the set in its journey. */
SEC("tc")
int route(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_POD);
	struct policy_state *policy = policy_state();
	struct translation backend;
	struct packet *packet;

	if (!journey || !policy)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	packet = &journey->packet;
	if (packet->protocol != IPPROTO_TCP)
		return deny(skb, &journey->ask, REASON_DROP_NO_BACKEND);
	if (backend_choose(&backend, journey, packet_spread(packet, journey->backend_set)))
		return route_open(skb, journey, policy, &backend);
	journey_deny(journey, REASON_DROP_NO_BACKEND, journey->ask.rule);
	enter_refuse(skb);
	return deny(skb, &journey->ask, REASON_DROP_NO_BACKEND);
}

/* An answer under the other address, too: that entry would never see one. */
static __always_inline void translated_note(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
					    const struct translation *other)
{
	struct tracking tracking;

	__builtin_memcpy(journey->packet.source, other->address, 16);
	journey->packet.source_port = other->port;
	tracking_begin(&tracking, journey, policy, DIRECTION_INGRESS);
	connection_find(&tracking, DIRECTION_INGRESS);
	if (tracking.connection)
		connection_touch(skb, &tracking, DIRECTION_INGRESS);
}

/* A packet of a connection that goes to a backend, on its way out or back; without its other address it goes nowhere. */
static __always_inline int translate_stage(struct __sk_buff *skb, const enum hook hook)
{
	struct journey *journey = journey_resume(skb, hook);
	struct policy_state *policy = policy_state();
	struct translation *other;

	if (!journey || !policy)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	connection_key_fill(&journey->key, &journey->packet, journey->endpoint, hook_direction(hook));
	other = bpf_map_lookup_elem(&translations, &journey->key);
	if (!other || !packet_translate(skb, &journey->packet, other, hook_direction(hook)))
		return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_CONNTRACK_FULL);
	if (hook == HOOK_TO_POD)
		translated_note(skb, journey, policy, other);
	return pass(skb, journey->reason);
}

SEC("tc")
int translate_out(struct __sk_buff *skb)
{
	return translate_stage(skb, HOOK_FROM_POD);
}

SEC("tc")
int translate_back(struct __sk_buff *skb)
{
	return translate_stage(skb, HOOK_TO_POD);
}

#endif
