/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * From a socket buffer to a flow: link header, VLAN tags, IPv4 or IPv6 with extension headers, fragments, ports.
 *
 * Everything comes from a hostile sender. A packet is malformed when a length does not fit into what is there or a
 * header is cut; what is well-formed but strange goes on to the policy.
 */
#ifndef SLUICE_PACKET_H
#define SLUICE_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

#define SECOND_NS 1000000000ULL
#define PACKET_TYPE_HOST 0	/* <linux/if_packet.h> has it only beside what BPF has no use for */

/* The kernel's own stack allows two tags, and no sender of ours needs more than eight extension headers. */
#define VLAN_TAGS_MAX 2
#define IPV6_EXTENSIONS_MAX 8

/* IPv6 header numbers; <linux/in6.h> has some of them only for user space. */
#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTHENTICATION 51
#define NEXT_DESTINATION 60

#define FRAGMENT_OFFSET_UNITS 8
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000

#define SCTP_HEADER 12
#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3	/* also "fragmentation needed" */
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMP_ECHO_REQUEST 8
#define ICMP6_ERROR_MAX 127	/* types below the informational ones (RFC 4443, 2.1) */
#define ICMP6_ECHO_REQUEST 128
#define ICMP6_ECHO_REPLY 129
#define ICMP6_ROUTER_SOLICITATION 133
#define ICMP6_NEIGHBOR_ADVERTISEMENT 136
#define ONLINK_HOP_LIMIT 255

#define DNS_PORT bpf_htons(53)
#define DNS_ENCRYPTED_PORT bpf_htons(853)	/* over TLS (RFC 7858) and QUIC (RFC 9250) */

struct packet {
	__u8 source[16];
	__u8 destination[16];
	__u32 fragment_id;
	__be16 source_port;	/* the identifier, in both ports, for ICMP echo */
	__be16 destination_port;
	__u16 network_offset;
	__u16 transport_offset;
	__u8 protocol;
	__u8 hop_limit;
	__u8 first_fragment;
	__u8 opens;		/* TCP: a SYN without an ACK */
	__u8 closes;		/* TCP: a FIN or RST */
	__u8 reports_error;	/* ICMP: about the packet whose first bytes follow its header */
	__u16 data;	/* TCP: bytes behind its header; 65,535 also when there are more */
};

struct ipv6_extension {
	__u8 next;
	__u8 length;	/* 8-byte units beyond the first; AH: 4-byte units beyond the second */
};

struct ipv6_fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset;	/* 13 bits, in units of 8 bytes; lowest bit: more follow */
	__be32 id;
};

struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

/* Headers lie in the first bytes: a bound that lets the verifier follow offsets. */
#define OFFSET_MAX 0x3fff

/*
 * Where size bytes at offset can be read: in the packet itself, or in buffer when the packet's pages do not hold them
 * in one piece. NULL when the packet is shorter.
 */
static __always_inline void *packet_read(struct __sk_buff *skb, __u32 offset, void *buffer, const __u32 size)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u64 bounded = offset;

	if (offset > OFFSET_MAX)
		return NULL;
	/* The compiler would add another copy of offset than the one it has just compared. */
	asm volatile("%0 &= %1" : "+r"(bounded) : "i"(OFFSET_MAX));
	if (data + bounded + size <= end)
		return data + bounded;
	return bpf_skb_load_bytes(skb, offset, buffer, size) ? NULL : buffer;
}

static __always_inline void address_map_ipv4(__u8 *address, __be32 ipv4)
{
	__u32 *words = (__u32 *)address;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = ipv4;
}

static __always_inline int address_is_ipv4(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

static __always_inline int address_equals(const __u8 *a, const __u8 *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3])) == 0;
}

static __always_inline int address_is_unspecified(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !(words[0] | words[1] | words[2] | words[3]);
}

static __always_inline int address_is_loopback(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	if (words[0] || words[1])
		return 0;
	return (words[2] == bpf_htonl(0xffff) && address[12] == 127) || (!words[2] && words[3] == bpf_htonl(1));
}

/* The address of the endpoint whose packet it is, in that direction of it. */
static __always_inline const __u8 *packet_local(const struct packet *packet, enum direction direction)
{
	return direction == DIRECTION_EGRESS ? packet->source : packet->destination;
}

static __always_inline int packet_is_dns(const struct packet *packet, enum direction direction)
{
	__be16 port = direction == DIRECTION_EGRESS ? packet->destination_port : packet->source_port;

	return port == DNS_PORT && (packet->protocol == IPPROTO_UDP || packet->protocol == IPPROTO_TCP);
}

static __always_inline int packet_is_ipv4(const struct packet *packet)
{
	return address_is_ipv4(packet->source);
}

/* Ports and TCP flags at transport_offset; payload is what the IP header says follows there. */
static __always_inline enum parsed packet_parse_transport(struct __sk_buff *skb, struct packet *packet, __u32 payload)
{
	__u32 offset = packet->transport_offset;
	union {
		struct tcphdr tcp;
		struct udphdr udp;
		struct icmp_header icmp;
		__be16 ports[2];
	} buffer;

	if (packet->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = packet_read(skb, offset, &buffer, sizeof(*tcp));

		if (!tcp || payload < sizeof(*tcp) || tcp->doff * 4 < sizeof(*tcp) || tcp->doff * 4 > payload)
			return PARSED_MALFORMED;
		packet->source_port = tcp->source;
		packet->destination_port = tcp->dest;
		packet->opens = tcp->syn && !tcp->ack;
		packet->closes = tcp->fin || tcp->rst;
		payload -= tcp->doff * 4;
		packet->data = payload > 0xffff ? 0xffff : payload;
		return PARSED_FLOW;
	}
	if (packet->protocol == IPPROTO_UDP || packet->protocol == IPPROTO_SCTP) {
		__u32 least = packet->protocol == IPPROTO_UDP ? sizeof(struct udphdr) : SCTP_HEADER;
		__be16 *ports = packet_read(skb, offset, &buffer, 2 * sizeof(*ports));

		if (!ports || payload < least)
			return PARSED_MALFORMED;
		packet->source_port = ports[0];
		packet->destination_port = ports[1];
		return PARSED_FLOW;
	}
	if (packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6) {
		struct icmp_header *icmp = packet_read(skb, offset, &buffer, sizeof(*icmp));

		if (!icmp || payload < sizeof(*icmp))
			return PARSED_MALFORMED;
		if (packet->protocol == IPPROTO_ICMPV6) {
			/* A hop limit of 255 cannot have come through a router (RFC 4861, 7.1). */
			if (icmp->type >= ICMP6_ROUTER_SOLICITATION && icmp->type <= ICMP6_NEIGHBOR_ADVERTISEMENT &&
			    icmp->code == 0 && packet->hop_limit == ONLINK_HOP_LIMIT)
				return PARSED_NEIGHBOR;
			packet->reports_error = icmp->type <= ICMP6_ERROR_MAX;
			if (icmp->type != ICMP6_ECHO_REQUEST && icmp->type != ICMP6_ECHO_REPLY)
				return PARSED_FLOW;
		} else {
			packet->reports_error = icmp->type == ICMP_UNREACHABLE || icmp->type == ICMP_TIME_EXCEEDED ||
						icmp->type == ICMP_PARAMETER_PROBLEM;
			if (icmp->type != ICMP_ECHO_REQUEST && icmp->type != ICMP_ECHO_REPLY)
				return PARSED_FLOW;
		}
		packet->source_port = icmp->id;
		packet->destination_port = icmp->id;
	}
	return PARSED_FLOW;
}

/*
 * The kind of a fragment with data at offset_units. A later fragment that would overwrite the ports and flags that were judged
 * is malformed (RFC 3128, RFC 5722); so is a first fragment too short to hold them, which the transport parser sees.
 */
static __always_inline enum parsed packet_parse_fragment(struct __sk_buff *skb, struct packet *packet,
							 __u32 payload, __u32 offset_units, int more)
{
	if (offset_units == 0) {
		packet->first_fragment = more;
		return packet_parse_transport(skb, packet, payload);
	}
	if (offset_units * FRAGMENT_OFFSET_UNITS < sizeof(struct tcphdr) && packet->protocol == IPPROTO_TCP)
		return PARSED_MALFORMED;
	return PARSED_LATER_FRAGMENT;
}

static __always_inline enum parsed packet_parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	__u32 here = skb->len - packet->network_offset, header_length, total;
	struct iphdr *ip, buffer;
	__u16 fragment;

	ip = packet_read(skb, packet->network_offset, &buffer, sizeof(buffer));
	if (!ip)
		return PARSED_MALFORMED;
	header_length = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (!total && skb->gso_size)	/* larger than the field can say */
		total = here;
	if (ip->version != 4 || header_length < sizeof(*ip) || total < header_length || total > here)
		return PARSED_MALFORMED;

	address_map_ipv4(packet->source, ip->saddr);
	address_map_ipv4(packet->destination, ip->daddr);
	packet->protocol = ip->protocol;
	packet->hop_limit = ip->ttl;
	packet->transport_offset = packet->network_offset + header_length;
	packet->fragment_id = bpf_ntohs(ip->id);
	fragment = bpf_ntohs(ip->frag_off);
	return packet_parse_fragment(skb, packet, total - header_length, fragment & IPV4_FRAGMENT_OFFSET,
				     (fragment & IPV4_MORE_FRAGMENTS) != 0);
}

static __always_inline enum parsed packet_parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	__u32 here = skb->len - packet->network_offset, left, offset_units = 0;
	struct ipv6hdr *ip, buffer;
	int more = 0;
	__u8 next;

	ip = packet_read(skb, packet->network_offset, &buffer, sizeof(buffer));
	if (!ip)
		return PARSED_MALFORMED;
	left = bpf_ntohs(ip->payload_len);
	if (!left && skb->gso_size)
		left = here - sizeof(*ip);
	if (ip->version != 6 || here < sizeof(*ip) || left > here - sizeof(*ip))
		return PARSED_MALFORMED;

	__builtin_memcpy(packet->source, &ip->saddr, 16);
	__builtin_memcpy(packet->destination, &ip->daddr, 16);
	packet->hop_limit = ip->hop_limit;
	packet->transport_offset = packet->network_offset + sizeof(*ip);
	next = ip->nexthdr;

	for (int i = 0; i <= IPV6_EXTENSIONS_MAX; i++) {
		struct ipv6_extension extension;
		__u32 length;

		if (next == NEXT_FRAGMENT) {
			struct ipv6_fragment fragment;

			if (left < sizeof(fragment) ||
			    bpf_skb_load_bytes(skb, packet->transport_offset, &fragment, sizeof(fragment)))
				return PARSED_MALFORMED;
			offset_units = bpf_ntohs(fragment.offset) >> 3;
			more = bpf_ntohs(fragment.offset) & 1;
			packet->fragment_id = bpf_ntohl(fragment.id);
			next = fragment.next;
			length = sizeof(fragment);
			if (offset_units) {
				packet->protocol = next;
				return packet_parse_fragment(skb, packet, left, offset_units, more);
			}
		} else if (next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_DESTINATION ||
			   next == NEXT_AUTHENTICATION) {
			if (left < 8 || bpf_skb_load_bytes(skb, packet->transport_offset, &extension, sizeof(extension)))
				return PARSED_MALFORMED;
			length = next == NEXT_AUTHENTICATION ? (extension.length + 2) * 4 : (extension.length + 1) * 8;
			next = extension.next;
		} else {
			packet->protocol = next;
			return packet_parse_fragment(skb, packet, left, offset_units, more);
		}
		if (length > left)
			return PARSED_MALFORMED;
		left -= length;
		packet->transport_offset += length;
	}
	return PARSED_MALFORMED;
}

/* Ports, or the identifier of an echo, in the first bytes of a transport header that an ICMP error quotes. */
static __always_inline int packet_quote_transport(struct __sk_buff *skb, struct packet *quoted, __u32 offset)
{
	struct icmp_header buffer, *header = packet_read(skb, offset, &buffer, sizeof(buffer));

	if (!header)
		return 0;
	if (quoted->protocol == IPPROTO_TCP || quoted->protocol == IPPROTO_UDP || quoted->protocol == IPPROTO_SCTP) {
		quoted->source_port = ((__be16 *)header)[0];
		quoted->destination_port = ((__be16 *)header)[1];
		return 1;
	}
	if ((quoted->protocol == IPPROTO_ICMP && (header->type == ICMP_ECHO_REQUEST || header->type == ICMP_ECHO_REPLY)) ||
	    (quoted->protocol == IPPROTO_ICMPV6 && (header->type == ICMP6_ECHO_REQUEST || header->type == ICMP6_ECHO_REPLY))) {
		quoted->source_port = header->id;
		quoted->destination_port = header->id;
		return 1;
	}
	return 0;
}

/*
 * Fills quoted, which must be zero, with the packet that an ICMP error is about, as far as addresses and ports go.
 *
 * Returns 0 when the quote does not have them: cut, a later fragment, behind IPv6 extension headers. Global as packet_parse.
 */
__noinline int packet_quote(struct __sk_buff *skb, const struct packet *error, struct packet *quoted)
{
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} buffer;
	__u32 offset;

	if (!error || !quoted)
		return 0;
	offset = error->transport_offset + sizeof(struct icmp_header);
	if (error->protocol == IPPROTO_ICMP) {
		struct iphdr *ip = packet_read(skb, offset, &buffer, sizeof(buffer.v4));

		if (!ip || ip->version != 4 || ip->ihl < 5 || (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)))
			return 0;
		address_map_ipv4(quoted->source, ip->saddr);
		address_map_ipv4(quoted->destination, ip->daddr);
		quoted->protocol = ip->protocol;
		offset += ip->ihl * 4;
	} else {
		struct ipv6hdr *ip = packet_read(skb, offset, &buffer, sizeof(buffer.v6));

		if (!ip || ip->version != 6)
			return 0;
		__builtin_memcpy(quoted->source, &ip->saddr, 16);
		__builtin_memcpy(quoted->destination, &ip->daddr, 16);
		quoted->protocol = ip->nexthdr;
		offset += sizeof(*ip);
	}
	return packet_quote_transport(skb, quoted, offset);
}

/*
 * Fills packet, which must be zero, from skb, whose link header takes that many bytes. Returns enum parsed.
 *
 * Global, so that it is verified by itself: each way through it would multiply the ways through its callers.
 */
__noinline int packet_parse(struct __sk_buff *skb, struct packet *packet, __u32 link_header)
{
	__be16 protocol = skb->protocol;

	if (!packet)
		return PARSED_MALFORMED;
	packet->network_offset = link_header;
	for (int i = 0; i <= VLAN_TAGS_MAX; i++) {
		struct {
			__be16 tci;
			__be16 protocol;
		} tag;

		if (protocol == bpf_htons(ETH_P_IP))
			return packet_parse_ipv4(skb, packet);
		if (protocol == bpf_htons(ETH_P_IPV6))
			return packet_parse_ipv6(skb, packet);
		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			return PARSED_NOT_IP;
		if (bpf_skb_load_bytes(skb, packet->network_offset, &tag, sizeof(tag)))
			return PARSED_MALFORMED;
		packet->network_offset += sizeof(tag);
		protocol = tag.protocol;
	}
	return PARSED_MALFORMED;
}

#endif
