/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The stage that refuses: a packet of TCP is answered with a reset, a datagram with an ICMP error that says that nobody listens. Who sent
 * it learns that at once. What is neither is dropped.
 */
#ifndef SLUICE_REFUSE_H
#define SLUICE_REFUSE_H

#include "describe.h"
#include "translate.h"

/* The pseudo-header that TCP's checksum is over besides its segment (RFC 9293, 3.1; RFC 8200, 8.1): IPv4's has less, in an order that sums up the same. */
struct pseudo_header {
	__be32 ends[8];		/* of the answer: source, then destination */
	__be32 length;
	__be32 protocol;
};

/* The header of a reset that answers a segment (RFC 9293, 3.10.7.1). */
static __always_inline void reset_fill(struct tcphdr *answer, const struct tcphdr *tcp, __u32 data)
{
	answer->source = tcp->dest;
	answer->dest = tcp->source;
	answer->seq = tcp->ack ? tcp->ack_seq : 0;
	answer->ack_seq = bpf_htonl(bpf_ntohl(tcp->seq) + data + tcp->syn + tcp->fin);
	answer->doff = sizeof(*answer) / 4;
	answer->rst = 1;
	answer->ack = 1;
}

static __always_inline void reset_sum(struct tcphdr *answer, struct pseudo_header *pseudo, const struct packet *packet)
{
	__s64 sum;

	__builtin_memcpy(&pseudo->ends[0], packet->destination, 16);
	__builtin_memcpy(&pseudo->ends[4], packet->source, 16);
	if (packet_is_ipv4(packet)) {	/* the two times ::ffff are not of the pseudo header */
		pseudo->ends[2] = 0;
		pseudo->ends[6] = 0;
	}
	pseudo->length = bpf_htonl(sizeof(*answer));
	pseudo->protocol = bpf_htonl(IPPROTO_TCP);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)pseudo, sizeof(*pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)answer, sizeof(*answer), sum);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	answer->check = ~sum;
}

/* Turns the network header around: its addresses, and the length of what it carries. Returns 0 or an error. */
static __always_inline int network_turn(struct __sk_buff *skb, const struct packet *packet, const struct pseudo_header *pseudo)
{
	__u32 network = packet->network_offset, header = packet->transport_offset - network;

	if (packet_is_ipv4(packet)) {
		__be16 length = bpf_htons(header + sizeof(struct tcphdr)), before;
		__be32 ends[2] = { pseudo->ends[3], pseudo->ends[7] };

		return bpf_skb_load_bytes(skb, network + offsetof(struct iphdr, tot_len), &before, sizeof(before)) ||
		       bpf_l3_csum_replace(skb, network + IPV4_CHECKSUM_OFFSET, before, length, sizeof(length)) ||
		       bpf_skb_store_bytes(skb, network + offsetof(struct iphdr, tot_len), &length, sizeof(length), 0) ||
		       bpf_skb_store_bytes(skb, network + offsetof(struct iphdr, saddr), ends, sizeof(ends), 0);
	} else {
		__be16 length = bpf_htons(header - sizeof(struct ipv6hdr) + sizeof(struct tcphdr));

		return bpf_skb_store_bytes(skb, network + offsetof(struct ipv6hdr, payload_len), &length, sizeof(length), 0) ||
		       bpf_skb_store_bytes(skb, network + offsetof(struct ipv6hdr, saddr), pseudo->ends, sizeof(pseudo->ends), 0);
	}
}

/* Makes the packet the reset that answers it. Returns 0 or an error. */
static __always_inline int packet_reset(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 addresses[2 * ETH_ALEN], swapped[2 * ETH_ALEN];
	__u32 transport = packet->transport_offset;
	struct tcphdr tcp = {}, answer = {};
	struct pseudo_header pseudo = {};

	if (bpf_skb_load_bytes(skb, transport, &tcp, sizeof(tcp)) || tcp.rst ||
	    bpf_skb_load_bytes(skb, 0, addresses, sizeof(addresses)) ||
	    bpf_skb_change_tail(skb, transport + sizeof(answer), 0))
		return 1;
	reset_fill(&answer, &tcp, packet->data);
	reset_sum(&answer, &pseudo, packet);
	__builtin_memcpy(swapped, addresses + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(swapped + ETH_ALEN, addresses, ETH_ALEN);
	return bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0) ||
	       bpf_skb_store_bytes(skb, transport, &answer, sizeof(answer), 0) || network_turn(skb, packet, &pseudo);
}

/* RFC 792 and RFC 4443, 3.1: nobody listens at this port. */
#define ICMP_PORT_UNREACHABLE 3
#define ICMP6_UNREACHABLE 1
#define ICMP6_PORT_UNREACHABLE 4
#define HOP_LIMIT 64

/* An ICMP error about a datagram: from the IP header on, with as much of the datagram as says whose it was. */
struct unreachable_ipv4 {
	struct iphdr ip;
	struct icmp_header icmp;
	struct iphdr quoted;
	struct udphdr udp;
};

struct unreachable_ipv6 {
	struct ipv6hdr ip;
	struct icmp_header icmp;
	struct ipv6hdr quoted;
	struct udphdr udp;
};

static __always_inline __be16 sum_fold(__s64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Puts an answer in the place of everything behind the link header. Returns 0 or an error. */
static __always_inline int packet_replace(struct __sk_buff *skb, const void *answer, const __u32 size)
{
	__u8 addresses[2 * ETH_ALEN], swapped[2 * ETH_ALEN];

	if (bpf_skb_load_bytes(skb, 0, addresses, sizeof(addresses)) || bpf_skb_change_tail(skb, sizeof(struct ethhdr) + size, 0))
		return 1;
	__builtin_memcpy(swapped, addresses + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(swapped + ETH_ALEN, addresses, ETH_ALEN);
	return bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0) ||
	       bpf_skb_store_bytes(skb, sizeof(struct ethhdr), answer, size, 0);
}

static __always_inline int unreachable_send_ipv4(struct __sk_buff *skb, const struct packet *packet)
{
	struct unreachable_ipv4 answer = {};

	if (packet->transport_offset != sizeof(struct ethhdr) + sizeof(answer.quoted) ||
	    bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &answer.quoted, sizeof(answer.quoted) + sizeof(answer.udp)))
		return 1;
	answer.ip.version = 4;
	answer.ip.ihl = sizeof(answer.ip) / 4;
	answer.ip.tot_len = bpf_htons(sizeof(answer));
	answer.ip.ttl = HOP_LIMIT;
	answer.ip.protocol = IPPROTO_ICMP;
	answer.ip.saddr = answer.quoted.daddr;
	answer.ip.daddr = answer.quoted.saddr;
	answer.ip.check = sum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.ip, sizeof(answer.ip), 0));
	answer.icmp.type = ICMP_UNREACHABLE;
	answer.icmp.code = ICMP_PORT_UNREACHABLE;
	answer.icmp.checksum = sum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.icmp, sizeof(answer) - sizeof(answer.ip), 0));
	return packet_replace(skb, &answer, sizeof(answer));
}

static __always_inline int unreachable_send_ipv6(struct __sk_buff *skb, const struct packet *packet)
{
	const __u32 length = sizeof(struct unreachable_ipv6) - sizeof(struct ipv6hdr);
	__be32 pseudo[2] = { bpf_htonl(length), bpf_htonl(IPPROTO_ICMPV6) };
	struct unreachable_ipv6 answer = {};
	__s64 sum;

	if (packet->transport_offset != sizeof(struct ethhdr) + sizeof(answer.quoted) ||
	    bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &answer.quoted, sizeof(answer.quoted) + sizeof(answer.udp)))
		return 1;
	answer.ip.version = 6;
	answer.ip.payload_len = bpf_htons(length);
	answer.ip.nexthdr = IPPROTO_ICMPV6;
	answer.ip.hop_limit = HOP_LIMIT;
	answer.ip.saddr = answer.quoted.daddr;
	answer.ip.daddr = answer.quoted.saddr;
	answer.icmp.type = ICMP6_UNREACHABLE;
	answer.icmp.code = ICMP6_PORT_UNREACHABLE;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&answer.ip.saddr, 2 * sizeof(answer.ip.saddr), 0);
	sum = bpf_csum_diff(NULL, 0, pseudo, sizeof(pseudo), sum);
	answer.icmp.checksum = sum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.icmp, length, sum));
	return packet_replace(skb, &answer, sizeof(answer));
}

/* Makes a datagram the ICMP error about it. Returns 0, or an error for what has more headers than are told apart here. */
static __always_inline int packet_unreachable(struct __sk_buff *skb, const struct packet *packet)
{
	if (packet->network_offset != sizeof(struct ethhdr))
		return 1;
	return packet_is_ipv4(packet) ? unreachable_send_ipv4(skb, packet) : unreachable_send_ipv6(skb, packet);
}

SEC("tc")
int refuse(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_POD);
	struct engine_state *engine = engine_state();
	const struct packet *packet;
	enum reason reason;

	if (!journey || !engine)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	reason = journey->reason;
	journey_take_backend(journey);
	if (reason != REASON_DROP_FAILURE_POLICY)	/* which was counted, and has left its record */
		deny(skb, &journey->ask, reason);
	packet = &journey->packet;
	if (packet->protocol == IPPROTO_TCP) {
		if (packet_reset(skb, packet))
			return OUTCOME_DROP;
	} else if (packet->protocol != IPPROTO_UDP || packet_unreachable(skb, packet)) {
		return OUTCOME_DROP;
	}
	/* At the pod's interface nobody has to judge it again, whatever policy says of what the pod receives. */
	skb->mark = engine->token + MARK_REFUSAL;
	return bpf_redirect(skb->ifindex, 0);
}

#endif
