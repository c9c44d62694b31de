/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The stage that refuses: a packet of TCP is answered with a reset. Who sent it learns at once that nobody listens, and tries again
 * with a SYN or not at all. What is no TCP is dropped.
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

SEC("tc")
int refuse(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_POD);
	enum reason reason;

	if (!journey)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	reason = journey->reason;
	journey_take_backend(journey);
	if (reason != REASON_DROP_FAILURE_POLICY)	/* which was counted, and has left its record */
		deny(skb, &journey->ask, reason);
	if (journey->packet.protocol != IPPROTO_TCP || packet_reset(skb, &journey->packet))
		return OUTCOME_DROP;
	return bpf_redirect(skb->ifindex, 0);
}

#endif
