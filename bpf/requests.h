/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections of which each HTTP request is decided, or whose backend a verdict names.
 *
 * The first go to the engine's proxy: a network namespace of its own in which every address is local, behind one veth. The
 * pod's packets are handed over at its interface, before any address translation of the node; what the proxy sends, with the
 * address of the service or of the pod as its source, goes to a pod of this node directly, and elsewhere as if the pod had
 * sent it. Connections whose verdict is known never go there: their packets get the backend's address on the way out, and
 * lose it on the way back.
 *
 * Programs are entered by tail call for a SYN, or what stands in its place, with the question of this CPU filled in, the
 * reason so far in cb[0], the endpoint in cb[1] and the revision of policy that it was judged by in cb[2].
 */
#ifndef SLUICE_REQUESTS_H
#define SLUICE_REQUESTS_H

#include "backends.h"
#include "decided.h"
#include "endpoint.h"

#define ADDRESS_FAMILY_IPV4 2
#define ADDRESS_FAMILY_IPV6 10
#define PACKET_TYPE_HOST 0
#define IPV4_CHECKSUM_OFFSET 10
#define TCP_CHECKSUM_OFFSET 16

static __always_inline int packet_is_ipv4(const struct packet *packet)
{
	return address_is_ipv4(packet->source);
}

/* What the question of this CPU was judged as, for an entry of its own. */
static __always_inline void judged_fill(struct judged *judged, const struct ask *ask, __u32 revision, enum flow_path path)
{
	struct plugin_state *plugin = plugin_find(ask->plugin);

	judged->revision = revision;
	judged->epoch = plugin ? plugin->epoch : 0;
	judged->plugin = ask->plugin;
	judged->peer_identity = ask->destination_identity;
	judged->direction = DIRECTION_EGRESS;
	judged->context = CONTEXT_HTTP;
	judged->path = path;
}

static __always_inline void requests_track(struct __sk_buff *skb, struct tracking *tracking, const struct packet *packet,
					   const struct judged *judged, __u32 id)
{
	__u32 zero = 0;
	struct policy_state *policy = bpf_map_lookup_elem(&policy_states, &zero);

	if (!policy)
		return;
	__builtin_memset(tracking, 0, sizeof(*tracking));
	tracking->now_ns = bpf_ktime_get_coarse_ns();
	connection_key_fill(&tracking->key, packet, id, DIRECTION_EGRESS);
	connection_track(skb, tracking, policy, packet, judged, DIRECTION_EGRESS);
}

/* Reached only while the engine lives. */
SEC("tc")
int to_proxy(struct __sk_buff *skb)
{
	__u32 zero = 0, id = skb->cb[1], revision = skb->cb[2];
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);
	struct ask *ask = bpf_map_lookup_elem(&questions, &zero);
	struct tracking tracking;
	struct packet packet = {};
	struct judged judged = {};

	if (!engine || !ask || packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW)
		return drop(skb, REASON_DROP_MALFORMED);
	if (!engine->proxy || engine->proxy_heartbeat_ns + engine->stale_ns < ask->time_ns) {
		skb->cb[0] = REASON_FAIL_PROXY_ABSENT;
		bpf_tail_call(skb, &pod_requests, REQUESTS_FALLBACK);
		return drop(skb, REASON_FAIL_PROXY_ABSENT);
	}
	judged_fill(&judged, ask, revision, FLOW_PATH_PROXY);
	requests_track(skb, &tracking, &packet, &judged, id);
	return proxy_send(skb, REASON_PASS_PROXY);
}

/* Writes another address and port into a packet: of its destination on the way out, of its source on the way back. */
static __always_inline int packet_translate(struct __sk_buff *skb, const struct packet *packet, const struct translation *to,
					    enum direction direction)
{
	int egress = direction == DIRECTION_EGRESS, ipv4 = packet_is_ipv4(packet);
	__u32 checksum = packet->transport_offset + TCP_CHECKSUM_OFFSET, network = packet->network_offset;
	__u32 port_at = packet->transport_offset + (egress ? offsetof(struct tcphdr, dest) : offsetof(struct tcphdr, source));
	__be16 port = egress ? packet->destination_port : packet->source_port;
	const __u8 *address = egress ? packet->destination : packet->source;
	__be32 before[4], after[4];

	__builtin_memcpy(before, address, 16);
	__builtin_memcpy(after, to->address, 16);
	if (ipv4) {
		if (bpf_l4_csum_replace(skb, checksum, before[3], after[3], BPF_F_PSEUDO_HDR | 4) ||
		    bpf_l3_csum_replace(skb, network + IPV4_CHECKSUM_OFFSET, before[3], after[3], 4) ||
		    bpf_skb_store_bytes(skb, network + (egress ? offsetof(struct iphdr, daddr) : offsetof(struct iphdr, saddr)), &after[3], 4, 0))
			return 0;
	} else {
		__s64 difference = bpf_csum_diff(before, 16, after, 16, 0);

		if (bpf_l4_csum_replace(skb, checksum, 0, difference, BPF_F_PSEUDO_HDR) ||
		    bpf_skb_store_bytes(skb, network + (egress ? offsetof(struct ipv6hdr, daddr) : offsetof(struct ipv6hdr, saddr)), after, 16, 0))
			return 0;
	}
	return !bpf_l4_csum_replace(skb, checksum, port, to->port, sizeof(port)) && !bpf_skb_store_bytes(skb, port_at, &to->port, sizeof(port), 0);
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

/* Sends a connection to a backend of the set in the question. In two programs, for want of stack. */
SEC("tc")
int requests_routed(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct ask *ask = bpf_map_lookup_elem(&questions, &zero);
	struct translation *chosen = bpf_map_lookup_elem(&chosen_backends, &zero);
	struct packet packet = {};
	struct translation backend;

	if (!ask || !chosen || packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW || packet.protocol != IPPROTO_TCP)
		return drop(skb, REASON_DROP_MALFORMED);
	if (backend_choose(&backend, ask->sequence, packet.source, packet_spread(&packet, ask->sequence), packet_is_ipv4(&packet), skb->cb[1])) {
		*chosen = backend;
		bpf_tail_call(skb, &pod_requests, REQUESTS_OPEN);
	}
	skb->cb[0] = REASON_DROP_NO_BACKEND;
	bpf_tail_call(skb, &pod_requests, REQUESTS_REFUSE);
	return deny(skb, ask, REASON_DROP_NO_BACKEND);
}

/* Opens a connection to the chosen backend: known by both of its addresses from here on. */
SEC("tc")
int requests_opened(struct __sk_buff *skb)
{
	__u32 zero = 0, id = skb->cb[1], revision = skb->cb[2];
	struct ask *ask = bpf_map_lookup_elem(&questions, &zero);
	struct translation *backend = bpf_map_lookup_elem(&chosen_backends, &zero), service;
	struct tracking tracking;
	struct packet packet = {};
	struct judged judged = {};

	if (!ask || !backend || packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW)
		return drop(skb, REASON_DROP_MALFORMED);
	judged_fill(&judged, ask, revision, FLOW_PATH_BACKEND);
	requests_track(skb, &tracking, &packet, &judged, id);
	if (bpf_map_update_elem(&translations, &tracking.key, backend, BPF_ANY))
		return deny(skb, ask, REASON_FAIL_CONNTRACK_FULL);
	if (!packet_translate(skb, &packet, backend, DIRECTION_EGRESS))
		return drop(skb, REASON_DROP_MALFORMED);
	translation_fill(&service, packet.destination, packet.destination_port);
	__builtin_memcpy(packet.destination, backend->address, 16);
	packet.destination_port = backend->port;
	requests_track(skb, &tracking, &packet, &judged, id);
	if (bpf_map_update_elem(&translations, &tracking.key, &service, BPF_ANY))
		return deny(skb, ask, REASON_FAIL_CONNTRACK_FULL);
	return pass(skb, REASON_PASS_ROUTED);
}

/* Nobody decides: the failure policy does, for a connection that then stays as it is. */
SEC("tc")
int requests_fallback(struct __sk_buff *skb)
{
	__u32 zero = 0, id = skb->cb[1], revision = skb->cb[2];
	struct ask *ask = bpf_map_lookup_elem(&questions, &zero);
	struct tracking tracking;
	struct packet packet = {};
	struct judged judged = {};

	if (!ask)
		return drop(skb, REASON_DROP_FAILURE_POLICY);
	if (failure_policy(skb, ask, plugin_find(ask->plugin), skb->cb[0]) == OUTCOME_DROP) {
		skb->cb[0] = REASON_DROP_FAILURE_POLICY;
		bpf_tail_call(skb, &pod_requests, REQUESTS_REFUSE);
		return OUTCOME_DROP;
	}
	if (packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW || !packet.opens)
		return OUTCOME_DROP;
	if (backend_default(ask)) {
		bpf_tail_call(skb, &pod_requests, REQUESTS_ROUTE);
		return OUTCOME_DROP;
	}
	judged_fill(&judged, ask, revision, FLOW_PATH_STRAIGHT);
	requests_track(skb, &tracking, &packet, &judged, id);
	return OUTCOME_NEXT;
}

/* Answers a packet of TCP with a reset: who sent it learns at once that nobody listens, and tries again with a SYN or not at all. */
SEC("tc")
int requests_refused(struct __sk_buff *skb)
{
	struct {
		__be32 ends[8];
		__be32 length;
		__be32 protocol;
	} pseudo = {};
	struct packet packet = {};
	struct tcphdr tcp = {}, answer = {};
	__u8 addresses[2 * ETH_ALEN], swapped[2 * ETH_ALEN];
	__u32 network, transport, zero = 0;
	struct ask *ask = bpf_map_lookup_elem(&questions, &zero);
	enum reason reason = skb->cb[0];
	__s64 sum;

	count(skb, reason);
	if (ask && reason != REASON_DROP_FAILURE_POLICY)	/* which left its record */
		flow_record_write(ask, VERDICT_DENY, reason);
	if (packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW || packet.protocol != IPPROTO_TCP)
		return OUTCOME_DROP;
	network = packet.network_offset;
	transport = packet.transport_offset;
	if (bpf_skb_load_bytes(skb, transport, &tcp, sizeof(tcp)) || tcp.rst || bpf_skb_load_bytes(skb, 0, addresses, sizeof(addresses)) ||
	    bpf_skb_change_tail(skb, transport + sizeof(answer), 0))
		return OUTCOME_DROP;
	answer.source = tcp.dest;
	answer.dest = tcp.source;
	answer.seq = tcp.ack ? tcp.ack_seq : 0;
	answer.ack_seq = bpf_htonl(bpf_ntohl(tcp.seq) + packet.data + tcp.syn + tcp.fin);
	answer.doff = sizeof(answer) / 4;
	answer.rst = 1;
	answer.ack = 1;
	__builtin_memcpy(&pseudo.ends[0], packet.destination, 16);
	__builtin_memcpy(&pseudo.ends[4], packet.source, 16);
	if (packet_is_ipv4(&packet)) {	/* the two times ::ffff are not of the pseudo header */
		pseudo.ends[2] = 0;
		pseudo.ends[6] = 0;
	}
	pseudo.length = bpf_htonl(sizeof(answer));
	pseudo.protocol = bpf_htonl(IPPROTO_TCP);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&answer, sizeof(answer), sum);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	answer.check = ~sum;
	__builtin_memcpy(swapped, addresses + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(swapped + ETH_ALEN, addresses, ETH_ALEN);
	if (bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0) || bpf_skb_store_bytes(skb, transport, &answer, sizeof(answer), 0))
		return OUTCOME_DROP;
	if (packet_is_ipv4(&packet)) {
		__be16 length = bpf_htons(transport - network + sizeof(answer)), before;
		__be32 ends[2] = { pseudo.ends[3], pseudo.ends[7] };

		if (bpf_skb_load_bytes(skb, network + offsetof(struct iphdr, tot_len), &before, sizeof(before)) ||
		    bpf_l3_csum_replace(skb, network + IPV4_CHECKSUM_OFFSET, before, length, sizeof(length)) ||
		    bpf_skb_store_bytes(skb, network + offsetof(struct iphdr, tot_len), &length, sizeof(length), 0) ||
		    bpf_skb_store_bytes(skb, network + offsetof(struct iphdr, saddr), ends, sizeof(ends), 0))
			return OUTCOME_DROP;
	} else {
		__be16 length = bpf_htons(transport - network - sizeof(struct ipv6hdr) + sizeof(answer));

		if (bpf_skb_store_bytes(skb, network + offsetof(struct ipv6hdr, payload_len), &length, sizeof(length), 0) ||
		    bpf_skb_store_bytes(skb, network + offsetof(struct ipv6hdr, saddr), pseudo.ends, 32, 0))
			return OUTCOME_DROP;
	}
	return bpf_redirect(skb->ifindex, 0);
}

/* A packet of a connection that goes to a backend, on its way out or back; without its other address it goes nowhere. */
static __always_inline int translated_packet(struct __sk_buff *skb, enum direction direction)
{
	__u32 zero = 0, id = skb->cb[1];
	enum reason reason = skb->cb[0];
	struct policy_state *policy = bpf_map_lookup_elem(&policy_states, &zero);
	struct tracking tracking = {};
	struct packet packet = {};
	struct translation *other;

	if (!policy || packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW)
		return drop(skb, REASON_DROP_MALFORMED);
	connection_key_fill(&tracking.key, &packet, id, direction);
	other = bpf_map_lookup_elem(&translations, &tracking.key);
	if (!other || !packet_translate(skb, &packet, other, direction))
		return drop(skb, REASON_FAIL_CONNTRACK_FULL);
	if (direction == DIRECTION_INGRESS) {	/* an answer under the other address, too: that entry would never see one */
		__builtin_memcpy(packet.source, other->address, 16);
		packet.source_port = other->port;
		__builtin_memset(&tracking, 0, sizeof(tracking));
		tracking.now_ns = bpf_ktime_get_coarse_ns();
		connection_key_fill(&tracking.key, &packet, id, direction);
		connection_find(&tracking, policy, &packet, direction);
		if (tracking.connection)
			connection_touch(skb, &tracking, policy, &packet, direction);
	}
	return pass(skb, reason);
}

SEC("tc")
int translated_from_pod(struct __sk_buff *skb)
{
	return translated_packet(skb, DIRECTION_EGRESS);
}

SEC("tc")
int translated_to_pod(struct __sk_buff *skb)
{
	return translated_packet(skb, DIRECTION_INGRESS);
}

/* Reached for an answer to the proxy that comes from elsewhere than this node's endpoints: handed over as to any interface. */
SEC("tc")
int requests_returned(struct __sk_buff *skb)
{
	__u8 address[ETH_ALEN] = PROXY_LINK_ADDRESS;
	__u32 zero = 0;
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);

	if (!engine || !engine->proxy || bpf_skb_store_bytes(skb, 0, address, sizeof(address), 0))
		return drop(skb, REASON_FAIL_PROXY_ABSENT);
	count(skb, REASON_PASS_PROXY);
	return bpf_redirect(engine->proxy, 0);
}

/*
 * Sends a packet from a pod's address to somewhere else as if the pod had: routing, address translation and reverse path filters
 * of the node take it for that. Its answers come to the pod's interface, where the connection is known by what is noted here.
 */
static __always_inline int proxy_forward(struct __sk_buff *skb, const struct packet *packet)
{
	struct local_endpoint *local = bpf_map_lookup_elem(&local_endpoints, packet->source);
	__u32 zero = 0;
	struct policy_state *policy = bpf_map_lookup_elem(&policy_states, &zero);
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);
	struct judged judged = { .direction = DIRECTION_EGRESS, .path = FLOW_PATH_PROXY };
	struct tracking tracking = {};

	if (!local || !policy || !engine)
		return drop(skb, REASON_DROP_NO_ENDPOINT);
	if (packet->opens) {
		judged.revision = policy->revision;
		tracking.now_ns = bpf_ktime_get_coarse_ns();
		connection_key_fill(&tracking.key, packet, local->id, DIRECTION_EGRESS);
		connection_track(skb, &tracking, policy, packet, &judged, DIRECTION_EGRESS);
	}
	skb->mark = engine->token + MARK_FORWARDED;
	return bpf_redirect(local->id, BPF_F_INGRESS);
}

/* Sends what the proxy says to an endpoint through that one's interface, where it is judged. */
SEC("tc")
int requests_delivered(struct __sk_buff *skb)
{
	struct bpf_fib_lookup route = { .ifindex = skb->ifindex };
	struct packet packet = {};
	int result;

	if (packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW)
		return drop(skb, REASON_DROP_MALFORMED);
	if (packet_is_ipv4(&packet)) {
		route.family = ADDRESS_FAMILY_IPV4;
		__builtin_memcpy(&route.ipv4_src, packet.source + 12, 4);
		__builtin_memcpy(&route.ipv4_dst, packet.destination + 12, 4);
	} else {
		route.family = ADDRESS_FAMILY_IPV6;
		__builtin_memcpy(route.ipv6_src, packet.source, 16);
		__builtin_memcpy(route.ipv6_dst, packet.destination, 16);
	}
	result = bpf_fib_lookup(skb, &route, sizeof(route), 0);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return drop(skb, REASON_DROP_NO_ENDPOINT);
	return bpf_redirect_neigh(route.ifindex, NULL, 0, 0);
}

/* Whether a packet from the proxy is of a connection that its endpoint's program would let pass without a question; notes it then. */
static __always_inline int proxy_packet_passes(struct __sk_buff *skb, const struct packet *packet, __u32 id)
{
	__u32 zero = 0;
	struct policy_state *policy = bpf_map_lookup_elem(&policy_states, &zero);
	struct tracking tracking = {};
	struct connection *connection;
	int answer;

	if (!policy || packet->protocol != IPPROTO_TCP || packet->first_fragment || packet_is_dns(packet, DIRECTION_INGRESS))
		return 0;
	tracking.now_ns = bpf_ktime_get_coarse_ns();
	connection_key_fill(&tracking.key, packet, id, DIRECTION_INGRESS);
	connection_find(&tracking, policy, packet, DIRECTION_INGRESS);
	connection = tracking.connection;
	if (!connection || connection->revision != policy->revision || connection->path != FLOW_PATH_PROXY || (connection->flags & CONNECTION_UNREAD))
		return 0;
	answer = connection->direction != DIRECTION_INGRESS;
	if (!answer && !connection_is_current(connection))
		return 0;
	connection_touch(skb, &tracking, policy, packet, DIRECTION_INGRESS);
	count(skb, answer ? REASON_PASS_REPLY : REASON_PASS_ESTABLISHED);
	return 1;
}

/*
 * At the ingress of the host's side of the proxy's veth. What the proxy sends to an endpoint of this node goes straight there, so
 * that no address translation or connection tracking of the node sees half a connection: into its network, where nothing is
 * left to be judged, else to its interface. Of everything else the node sees both directions.
 */
SEC("tc")
int from_proxy(struct __sk_buff *skb)
{
	struct local_endpoint *local;
	struct packet packet = {};

	if (packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW)
		return drop(skb, REASON_DROP_MALFORMED);
	local = bpf_map_lookup_elem(&local_endpoints, packet.destination);
	if (!local)
		return proxy_forward(skb, &packet);
	if (local->peered && proxy_packet_passes(skb, &packet, local->id)) {
		bpf_skb_change_type(skb, PACKET_TYPE_HOST);
		return bpf_redirect_peer(local->id, 0);
	}
	bpf_tail_call(skb, &pod_requests, REQUESTS_DELIVER);
	return drop(skb, REASON_DROP_NO_ENDPOINT);
}

/* In the proxy's network namespace: whatever a connection is for, the one listener takes it. */
SEC("sk_lookup")
int pick_listener(struct bpf_sk_lookup *lookup)
{
	__u32 pods = PROXY_LISTENER_PODS;
	struct bpf_sock *listener = bpf_map_lookup_elem(&proxy_listeners, &pods);

	if (!listener)
		return SK_DROP;
	bpf_sk_assign(lookup, listener, 0);
	bpf_sk_release(listener);
	return SK_PASS;
}

#endif
