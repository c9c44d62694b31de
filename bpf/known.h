/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The shortest way: a plain packet of an answered connection that stands as it was judged passes, and nothing else about it is
 * looked at.
 *
 * Plain is what has no VLAN tag among its bytes, no IP options or extension headers, is no fragment, and is UDP, or TCP without SYN.
 * Whatever this does not take goes the general way, which says the same of it: nothing is decided here but that.
 */
#ifndef SLUICE_KNOWN_H
#define SLUICE_KNOWN_H

#include "journey.h"

#define IPV4_PLAIN 0x45		/* version 4, five words: no options */
#define IPV4_FRAGMENT (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)
#define IPV6_VERSION(first) ((first) >> 4)

/* A plain packet, as far as finding its connection goes. */
struct plain {
	struct connection_key key;
	__u8 local[16];
	__u8 closes;
};

/* Reads the TCP header, or that of UDP, in the packet's own memory; payload is what IP says follows. Returns 0 if it is not plain. */
static __always_inline int plain_read_transport(struct plain *plain, const void *header, const void *end, __u32 payload)
{
	const struct tcphdr *tcp = header;

	if (plain->key.protocol == IPPROTO_UDP)
		return payload >= sizeof(struct udphdr);
	if (plain->key.protocol != IPPROTO_TCP || (const void *)(tcp + 1) > end || tcp->syn)
		return 0;
	plain->closes = tcp->fin || tcp->rst;
	return tcp->doff * 4 >= sizeof(*tcp) && tcp->doff * 4 <= payload;
}

/* Ports of the two sides; both protocols have them in the same place. */
static __always_inline void plain_read_ports(struct plain *plain, const __be16 *ports, enum direction direction)
{
	int egress = direction == DIRECTION_EGRESS;

	plain->key.remote_port = ports[egress];
	plain->key.local_port = ports[!egress];
}

static __always_inline int plain_read_ipv4(struct __sk_buff *skb, struct plain *plain, const enum hook hook)
{
	const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct iphdr *ip = data + hook_link_header(hook);
	int egress = hook_direction(hook) == DIRECTION_EGRESS;
	__u32 total;

	if ((const void *)(ip + 1) + sizeof(struct udphdr) > end || *(const __u8 *)ip != IPV4_PLAIN ||
	    (ip->frag_off & bpf_htons(IPV4_FRAGMENT)))
		return 0;
	total = bpf_ntohs(ip->tot_len);
	if (total < sizeof(*ip) || total > skb->len - hook_link_header(hook))
		return 0;
	plain->key.protocol = ip->protocol;
	address_map_ipv4(plain->key.remote, egress ? ip->daddr : ip->saddr);
	address_map_ipv4(plain->local, egress ? ip->saddr : ip->daddr);
	plain_read_ports(plain, (const __be16 *)(ip + 1), hook_direction(hook));
	return plain_read_transport(plain, ip + 1, end, total - sizeof(*ip));
}

static __always_inline int plain_read_ipv6(struct __sk_buff *skb, struct plain *plain, const enum hook hook)
{
	const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct ipv6hdr *ip = data + hook_link_header(hook);
	int egress = hook_direction(hook) == DIRECTION_EGRESS;
	__u32 payload;

	if ((const void *)(ip + 1) + sizeof(struct udphdr) > end || IPV6_VERSION(*(const __u8 *)ip) != 6)
		return 0;
	payload = bpf_ntohs(ip->payload_len);
	if (payload > skb->len - hook_link_header(hook) - sizeof(*ip))
		return 0;
	plain->key.protocol = ip->nexthdr;
	__builtin_memcpy(plain->key.remote, egress ? &ip->daddr : &ip->saddr, 16);
	__builtin_memcpy(plain->local, egress ? &ip->saddr : &ip->daddr, 16);
	plain_read_ports(plain, (const __be16 *)(ip + 1), hook_direction(hook));
	return plain_read_transport(plain, ip + 1, end, payload);
}

/* Whether the packet is one that passes here; counts it and notes it in its connection then. */
static __always_inline int packet_is_known(struct __sk_buff *skb, const struct policy_state *policy, __u32 endpoint,
					   const enum hook hook)
{
	struct plain plain = { .key.endpoint = endpoint };
	struct tracking tracking = { .policy = policy, .key = &plain.key };
	struct connection *connection;
	int answer;

	if (skb->protocol == bpf_htons(ETH_P_IP) ? !plain_read_ipv4(skb, &plain, hook)
						 : skb->protocol != bpf_htons(ETH_P_IPV6) || !plain_read_ipv6(skb, &plain, hook))
		return 0;
	/* The contents of DNS messages are looked at, also in connections that are known. */
	if (plain.key.remote_port == DNS_PORT)
		return 0;
	connection = bpf_map_lookup_elem(&connections, &plain.key);
	if (!connection || connection->revision != policy->revision || connection->path || (connection->flags & CONNECTION_UNREAD))
		return 0;
	tracking.now_ns = bpf_ktime_get_coarse_ns();
	answer = connection->direction != hook_direction(hook);
	if (connection->expires_ns <= tracking.now_ns || !address_equals(connection->local, plain.local) ||
	    (!answer && !connection_is_current(connection)))
		return 0;
	connection_renew(connection, &tracking,
			 connection->flags | (answer ? CONNECTION_REPLIED : 0) | (plain.closes ? CONNECTION_CLOSING : 0));
	count(skb, answer ? REASON_PASS_REPLY : REASON_PASS_ESTABLISHED);
	return 1;
}

#endif
