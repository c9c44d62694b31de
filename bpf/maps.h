/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every map but the scratch of one packet (journeys in journey.h, readings in dns-parse.h), with who writes, who reads, when an entry leaves and what happens when the map is full.
 *
 * Maps that the engine fills allocate on demand; node_addresses, peers, networks, policies, ports, services and backends are sized by the cluster when the engine
 * starts, the entries here are what they have without an engine.
 * All but readings and what lasts as long as an engine (engine_stages, proxy_listeners) are pinned, so that a restarted
 * engine finds them.
 */
#ifndef SLUICE_MAPS_H
#define SLUICE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"
#include "stages.h"

/*
 * Endpoint id -> what the packets of this endpoint are judged by. Engine writes. An entry leaves with its pod.
 * Full: the pod is not attached and reported.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct endpoint);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} endpoints SEC(".maps");

/*
 * Cgroup that programs are attached to -> its endpoint id; 0 until the engine has written it, and the cgroup is no endpoint
 * so long. An entry leaves with its cgroup.
 */
struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, __u64);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cgroup_ids SEC(".maps");

/* One entry. Engine writes it after every change of the maps below. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} policy_states SEC(".maps");

/* Address of this node -> 1. Engine writes. Full: the change is not put in force; reported. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u8[16]);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} node_addresses SEC(".maps");

/* Pod or node address -> identity. Engine writes. Full: the address counts as a network or the world; reported. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u8[16]);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} peers SEC(".maps");

/* Network -> identity, for addresses that are nobody's in peers. Engine writes. Full: as peers. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct network_key);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} networks SEC(".maps");

/* Rule set and peer identity -> port table. Engine writes. Full: the rule set is not put in force; reported. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 524288);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_key);
	__type(value, struct policy_entry);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} policies SEC(".maps");

/* Port table, protocol and port prefix -> rule. Engine writes. Full: as policies. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port_key);
	__type(value, struct rule);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ports SEC(".maps");

/* Hash of a name -> the patterns that end in it. Engine writes. Full: as policies. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct name_pattern);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} name_patterns SEC(".maps");

/*
 * Rule set and the closest pattern to a name, of all that there are -> the rule set for addresses that are known by such a name.
 * Engine writes. Full: as policies.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct named_key);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} named_rule_sets SEC(".maps");

/* Address of a resolver whose answers are believed -> 1. Engine writes. Full: that one is not trusted; reported. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u8[16]);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} resolvers SEC(".maps");

/*
 * Address and who knows it -> by which patterns, until when. Programs write; the engine takes away what is over and what no
 * connection uses. Full, or beyond the endpoint's share: not learned, and so not open; counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct known_key);
	__type(value, struct known_address);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} known_addresses SEC(".maps");

/* Query -> what was asked. Programs write. Full: the least recently used leaves, and its answer teaches nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct query_key);
	__type(value, struct query);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} queries SEC(".maps");

/* Endpoint id -> what it takes of the two maps above. Programs count; the engine counts addresses anew, and takes
 * idle ones away. Full: it learns nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct name_share);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} name_shares SEC(".maps");

/* Hash -> the name, for people to read. Programs write. Full: the least recently used leaves, and is shown as unknown. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct dns_name);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} dns_names SEC(".maps");

/* Plugin id -> epoch and failure policy. Engine writes when a version, status or scope changes. Never full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_PLUGINS_MAX);
	__type(key, __u32);
	__type(value, struct plugin_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} plugins SEC(".maps");

/* Scope -> what a plugin decided. Engine writes. Stale entries are ignored; full: the least recently used leaves, and is asked again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct verdict_key);
	__type(value, struct verdict_entry);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} verdicts SEC(".maps");

/*
 * Connection of an endpoint -> how it was judged; one that has been answered. Programs write. Full: the least recently used
 * leaves, and is judged again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct connection_key);
	__type(value, struct connection);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} connections SEC(".maps");

#define OPENINGS 65536

/* A connection that nobody has answered yet. */
struct opening {
	struct bpf_spin_lock lock;
	struct connection_key key;
	struct connection connection;
};

/* Hash of the key -> connection. Programs write. Never full: the later one takes the slot, and what loses it is judged again. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OPENINGS);
	__type(key, __u32);
	__type(value, struct opening);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} openings SEC(".maps");

/* Backend set -> how many backends it has. Engine writes; sized by the cluster. An entry leaves when no Service and no rule has the set. Full: as services. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct backend_set);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} backend_sets SEC(".maps");

/* Backend set and index -> where that backend listens. Engine writes; sized by the cluster. Full: as services. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct backend_key);
	__type(value, struct translation);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} backends SEC(".maps");

/*
 * Address, port and protocol that lead to a Service -> its backend set; also which addresses are nodes', see struct service_key. Engine
 * writes; sized by the cluster. Full: reported, and nothing of what changed is put in force.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service_key);
	__type(value, struct service);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} services SEC(".maps");

/* Client of a Service with affinity -> its backend. Programs write. Full: the least recently used leaves, and chooses anew. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} affinities SEC(".maps");

/*
 * Rule about requests -> the backend set for connections that nobody decides about, or BACKEND_SET_SERVICE; none: they go where
 * they are sent. Engine writes. Full: reported.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} rule_backends SEC(".maps");

/* Address of a pod that has an interface here -> its endpoint. Engine writes. Full: reported; what the proxy sends there is lost. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u8[16]);
	__type(value, struct local_endpoint);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} local_endpoints SEC(".maps");

/* Socket of a process -> what it was connected to, where requests are decided. Programs write. An entry leaves with its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct origin);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} origins SEC(".maps");

/* Endpoint id -> how many entries of connections are its. Programs count up, the engine counts anew. Full: not counted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct connection_share);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} shares SEC(".maps");

/* Datagram whose first fragment passed -> until when its later ones may, and with which address. Programs write. Full: the least recently used leaves. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} fragments SEC(".maps");

/* enum reason -> packets and bytes. Programs write, the engine reads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_MAX);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");

/* Plugin id → packets for which the verdict cache had its verdict. Programs count, the engine reads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ABI_PLUGINS_MAX);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} verdict_hits SEC(".maps");

/* Held packets, struct ask and bytes. Full: the flow gets its failure policy. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} asks SEC(".maps");

/* struct flow_record of what the kernel decided alone. Full, or beyond the endpoint's share: the record is lost and counted. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flow_records SEC(".maps");

/* How many records an endpoint has left for one reason. */
struct record_key {
	__u32 endpoint;
	__u32 reason;		/* enum reason */
};

struct record_share {
	__u64 window_ns;	/* from then on they are counted */
	__u32 records;
	__u32 pad;
};

/* Endpoint and reason -> records of the last second. Programs write. Full: the least recently used leaves, and has its whole share again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct record_key);
	__type(value, struct record_share);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} record_shares SEC(".maps");

/* One entry, written by the engine through shared memory, read before a packet is held. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct engine_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} engine_states SEC(".maps");

/*
 * The way from one stage to the next, by enum stage, see stages.h: a program array holds programs of one kind. Pinned: all of it goes
 * on without an engine.
 */
#define STAGE_ARRAY(name)                                 \
	struct {                                          \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);    \
		__uint(max_entries, STAGE_MAX);           \
		__type(key, __u32);                       \
		__type(value, __u32);                     \
		__uint(pinning, LIBBPF_PIN_BY_NAME);      \
	} name SEC(".maps")
STAGE_ARRAY(pod_stages);
STAGE_ARRAY(sent_stages);
STAGE_ARRAY(received_stages);

/* enum proxy_listener -> the proxy's listening socket, which leaves with it. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, PROXY_LISTENER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} proxy_listeners SEC(".maps");

/*
 * The ways to the engine and to its proxy, open exactly as long as the engine lives: the kernel empties a program array when the
 * last file descriptor and pin of it are gone, so a killed engine closes it at once. Never pinned for that reason.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGE_MAX);
	__type(key, __u32);
	__type(value, __u32);
} engine_stages SEC(".maps");

/* The one entry of a map that has one; NULL is not possible, though the verifier wants to hear of it. */
static __always_inline struct policy_state *policy_state(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&policy_states, &first);
}

static __always_inline struct engine_state *engine_state(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&engine_states, &first);
}

#endif
