/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Packets that go to a backend, by a rule about HTTP or as one of a Service: they get its address in place of the one that they were sent
 * to, and their answers that one in place of its.
 *
 * Such a connection stands twice in connections, under each of its two addresses, each with the other. TCP and UDP have a checksum over
 * addresses and ports; that of SCTP is over its ports only, and over all that it carries: those ports stay.
 */
#ifndef SLUICE_TRANSLATE_H
#define SLUICE_TRANSLATE_H

#include "backends.h"
#include "engine.h"
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
	__u32 summed;		/* a checksum is over it */
};

/* Of the destination on the way out, of the source on the way back. */
static __always_inline void exchange_fill(struct exchange *exchange, const struct packet *packet, const struct translation *before,
					  const struct translation *after, enum direction direction)
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
	/* A later fragment has neither ports nor a checksum: the first one's is over all of them. */
	exchange->summed = packet->protocol != IPPROTO_SCTP && before->port;
	__builtin_memcpy(exchange->before, before->address, 16);
	__builtin_memcpy(exchange->after, after->address, 16);
	exchange->port_before = before->port;
	exchange->port_after = after->port;
}

static __always_inline int exchange_address(struct __sk_buff *skb, const struct exchange *exchange, const struct packet *packet)
{
	int summed = exchange->summed;
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
static __always_inline int packet_translate(struct __sk_buff *skb, const struct packet *packet, const struct translation *before,
					    const struct translation *after, enum direction direction)
{
	struct exchange exchange;

	exchange_fill(&exchange, packet, before, after, direction);
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP &&
	    (packet->protocol != IPPROTO_SCTP || exchange.port_before != exchange.port_after))
		return 0;
	if (!exchange_address(skb, &exchange, packet))
		return 0;
	if (!exchange.summed)
		return 1;
	return !bpf_l4_csum_replace(skb, exchange.checksum_at, exchange.port_before, exchange.port_after,
				    exchange.checksum_flags | sizeof(exchange.port_after)) &&
	       !bpf_skb_store_bytes(skb, exchange.port_at, &exchange.port_after, sizeof(exchange.port_after), 0);
}

/* Where an ICMP error quotes the packet that it is about, and that one's own checksum. */
struct quoted_at {
	__u32 network;
	__u32 transport;
	__u32 checksum;		/* of the error */
};

/* Writes another destination into the packet that an ICMP error quotes. The sum of an IPv4 header is the same afterwards. Returns 0 or an error. */
static __always_inline int quote_address(struct __sk_buff *skb, const struct quoted_at *at, const struct translation *before,
					 const struct translation *after)
{
	__be32 old[4], new[4];

	__builtin_memcpy(old, before->address, sizeof(old));
	__builtin_memcpy(new, after->address, sizeof(new));
	if (address_is_ipv4(before->address))
		return bpf_l3_csum_replace(skb, at->network + IPV4_CHECKSUM_OFFSET, old[3], new[3], 4) ||
		       bpf_skb_store_bytes(skb, at->network + offsetof(struct iphdr, daddr), &new[3], 4, 0);
	return bpf_l4_csum_replace(skb, at->checksum, 0, bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0), 0) ||
	       bpf_skb_store_bytes(skb, at->network + offsetof(struct ipv6hdr, daddr), new, sizeof(new), 0);
}

/*
 * Writes the Service's address into an ICMP error about a packet that went to a backend: the pod knows no other. The checksum of the quoted
 * packet itself stays, which nobody compares. Returns 0 where that is not possible.
 */
static __always_inline int quote_translate(struct __sk_buff *skb, struct journey *journey)
{
	const struct translation *after = &journey->judged.other;
	const struct packet *quoted = &journey->quote.packet;
	struct quoted_at at = { .network = journey->packet.transport_offset + sizeof(struct icmp_header) };
	struct translation before;
	__u8 first;

	at.checksum = journey->packet.transport_offset + offsetof(struct icmp_header, checksum);
	if (bpf_skb_load_bytes(skb, at.network, &first, sizeof(first)))
		return 0;
	at.transport = at.network + (packet_is_ipv4(quoted) ? (first & 0xf) * 4 : sizeof(struct ipv6hdr));
	translation_fill(&before, quoted->destination, quoted->destination_port);
	return !quote_address(skb, &at, &before, after) &&
	       !bpf_l4_csum_replace(skb, at.checksum, before.port, after->port, sizeof(before.port)) &&
	       !bpf_skb_store_bytes(skb, at.transport + offsetof(struct udphdr, dest), &after->port, sizeof(after->port), 0);
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

	journey->judged.path = path | (journey->judged.path & FLOW_PATH_BACKEND);
	tracking_begin(&tracking, journey, policy, DIRECTION_EGRESS);
	connection_track(skb, &tracking, &journey->judged, DIRECTION_EGRESS);
}

/* Opens a connection to a backend: known by both of its addresses from here on. */
static __always_inline int route_open(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
				      const struct translation *backend)
{
	struct packet *packet = &journey->packet;
	struct translation service;

	translation_fill(&service, packet->destination, packet->destination_port);
	journey->judged.other = *backend;
	journey_track(skb, journey, policy, FLOW_PATH_TRANSLATED);
	if (!packet_translate(skb, packet, &service, backend, DIRECTION_EGRESS))
		return deny(skb, &journey->ask, REASON_DROP_MALFORMED);
	__builtin_memcpy(packet->destination, backend->address, 16);
	packet->destination_port = backend->port;
	journey->judged.other = service;
	journey_track(skb, journey, policy, FLOW_PATH_TRANSLATED);
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
	/* A rule about a backend may send its connections elsewhere: from the Service's address, which the pod knows. */
	journey_take_backend(journey);
	if (packet->protocol != IPPROTO_TCP)
		return deny(skb, &journey->ask, REASON_DROP_NO_BACKEND);
	if (backend_choose(&backend, journey, packet_spread(packet, journey->backend_set)))
		return route_open(skb, journey, policy, &backend);
	journey_deny(journey, REASON_DROP_NO_BACKEND, journey->ask.rule);
	enter_refuse(skb);
	return deny(skb, &journey->ask, REASON_DROP_NO_BACKEND);
}

/* An answer under the other address, too: that entry would never see one. */
static __always_inline void answer_note(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy)
{
	const struct translation *other = &journey->judged.other;
	struct tracking tracking;

	__builtin_memcpy(journey->packet.source, other->address, 16);
	journey->packet.source_port = other->port;
	tracking_begin(&tracking, journey, policy, DIRECTION_INGRESS);
	connection_find(&tracking, DIRECTION_INGRESS);
	if (tracking.connection)
		connection_touch(skb, &tracking, DIRECTION_INGRESS);
}

/* Writes what the journey knows of a connection's other address under the address that its packet is to. Global, as packet_parse. */
__noinline int other_write(struct __sk_buff *skb, struct journey *journey, __u32 path)
{
	struct policy_state *policy = policy_state();
	struct connection *connection;
	struct tracking tracking;
	struct judged *judged;

	if (!journey || !policy)
		return 0;
	judged = &journey->judged;
	judged->direction = DIRECTION_EGRESS;
	judged->unread = 0;
	judged->path = path;
	/* That of a Service is of the set as it is now; any other stands for no judgement. */
	judged->revision = path & FLOW_PATH_SERVICE ? policy->revision : policy->revision - 1;
	tracking_begin(&tracking, journey, policy, DIRECTION_EGRESS);
	connection_seek(&tracking, DIRECTION_EGRESS);
	connection = tracking.connection;
	if (connection && (path & FLOW_PATH_ONLY) && !(connection->path & FLOW_PATH_ONLY))
		return 0;	/* it is tracked */
	if (connection) {
		connection->path = path;
		connection->other = judged->other;
		connection->service = judged->service;
	}
	connection_track(skb, &tracking, judged, DIRECTION_EGRESS);
	return 0;
}

/* Notes under both addresses of a connection to a Service what the other one is, unless that is known. The journey ends with that. */
static __always_inline void service_note(struct __sk_buff *skb, struct journey *journey)
{
	__u8 path = journey->judged.path;

	if (journey->found == FOUND_NOTHING)
		other_write(skb, journey, FLOW_PATH_BACKEND | FLOW_PATH_ONLY);
	if (!journey->signposted) {
		translation_fill(&journey->backend, journey->packet.destination, journey->packet.destination_port);
		journey->judged.path = path;
		journey_take_backend(journey);
		journey->judged.other = journey->backend;
		other_write(skb, journey, FLOW_PATH_SERVICE);
	}
	journey->judged.path = path;
}

/* What a pod sends. It has been counted. */
SEC("tc")
int translate_out(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_POD);
	struct translation before, after;
	struct packet *packet;

	if (!journey)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	packet = &journey->packet;
	translation_fill(&before, packet->destination, packet->destination_port);
	after = journey->judged.other;
	if (journey_has_backend(journey)) {	/* which its bytes have not */
		after = before;
		before = journey->judged.other;
	}
	if (!packet_translate(skb, packet, &before, &after, DIRECTION_EGRESS))
		return packet_drop(skb, journey, DIRECTION_EGRESS, REASON_DROP_MALFORMED);
	if (journey_has_backend(journey) && journey->parsed == PARSED_FLOW)
		service_note(skb, journey);
	if (journey->judged.path & FLOW_PATH_PROXIED)
		return proxy_send(skb, journey, journey->reason);
	return OUTCOME_NEXT;
}

/* What a pod receives. It has been counted. */
SEC("tc")
int translate_back(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_TO_POD);
	struct policy_state *policy = policy_state();
	struct translation before;
	struct packet *packet;

	if (!journey || !policy)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	packet = &journey->packet;
	if (journey->quotes)
		return quote_translate(skb, journey) ? OUTCOME_NEXT
						     : packet_drop(skb, journey, DIRECTION_INGRESS, REASON_DROP_MALFORMED);
	translation_fill(&before, packet->source, packet->source_port);
	if (!packet_translate(skb, packet, &before, &journey->judged.other, DIRECTION_INGRESS))
		return packet_drop(skb, journey, DIRECTION_INGRESS, REASON_DROP_MALFORMED);
	if (journey->parsed == PARSED_FLOW)
		answer_note(skb, journey, policy);
	return OUTCOME_NEXT;
}

#endif
