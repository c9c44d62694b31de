/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsluice: what the engine needs of libbpf, sockets and interfaces, behind a C ABI that is cheap to call in batches.
 *
 * Every function returns 0 (or a count or descriptor where it says so) or -errno, and prints nothing. Descriptors are
 * plain integers and may be used from any thread; a handle belongs to one thread at a time, but for what is said to be safe
 * from any thread. Pointers, numbers of records and offsets that both sides must know are generated from here (abi.bpf.c).
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdint.h>

#define SLUICE_API __attribute__((visibility("default")))

/* log.c: libbpf's messages. level: 0 warning, 1 information, 2 debugging. Called on the thread that runs libbpf. */
typedef void (*sluice_log_callback)(int level, const char *text);
SLUICE_API void sluice_log__set(sluice_log_callback callback);

/* kernel.c */

/* Returns 1 when directory is on a BPF file system, 0 when not, or -errno. */
SLUICE_API int sluice_kernel__is_bpffs(const char *directory);
/* Returns the number of possible CPUs: how many values a per-CPU map gives. */
SLUICE_API int sluice_kernel__cpus(void);
/* Returns the interface's index in this thread's network namespace, or -errno. */
SLUICE_API int sluice_kernel__ifindex(const char *interface);
/* Whether an interface is a veth whose other end is in another network namespace: 1, 0 or -errno. */
SLUICE_API int sluice_kernel__is_peered(uint32_t ifindex);
/* bpf_ktime_get_ns() time. */
SLUICE_API uint64_t sluice_kernel__now_ns(void);

/* object.c: a compiled object with its maps, taken over from pin_directory where they are pinned already. */
struct sluice_object;

/* How many entries a map should have room for. 24 bytes. */
struct sluice_map_size {
	char name[20];
	uint32_t entries;
};

struct stage_switches;	/* bpf/abi.h */

/* An object that is to be loaded. 48 bytes. */
struct sluice_object_plan {
	const char *path;
	const char *pin_directory;
	const struct stage_switches *switches;
	const struct sluice_map_size *sizes;
	char *problem;		/* receives why it cannot be loaded, as text */
	uint32_t size_count;
	uint32_t problem_size;
};

/*
 * Loads an object. Returns -EUCLEAN when a pinned map has another layout than the object wants; problem then names it. A map
 * with a size takes over a pinned one that is at least as large; a smaller one stays pinned until sluice_object__commit.
 * For other errors problem holds the end of libbpf's warnings and the verifier's log.
 */
SLUICE_API int sluice_object__load(const struct sluice_object_plan *plan, struct sluice_object **object);
/* Loads the programs once more, with other switches, on the maps of an object that is loaded: the plan's sizes do not count. */
SLUICE_API int sluice_object__load_again(const struct sluice_object_plan *plan, const struct sluice_object *loaded,
					 struct sluice_object **object);
/* Pins the maps that were made anew in place of smaller ones: when they are filled, and no program uses the old ones. */
SLUICE_API int sluice_object__commit(struct sluice_object *object);
/* Returns the descriptor, which the object keeps, or -ENOENT. */
SLUICE_API int sluice_object__map(struct sluice_object *object, const char *name);
SLUICE_API int sluice_object__program(struct sluice_object *object, const char *name);
SLUICE_API void sluice_object__close(struct sluice_object *object);

/* link.c: programs on interfaces. direction is enum direction: of the endpoint, not of the interface. */
enum sluice_attachment {
	SLUICE_TCX = 0,
	SLUICE_CLSACT = 1,
};

/*
 * Attaches the program ahead of others, or replaces the one attached before, atomically. A tcx link lives in pin_path;
 * a kernel without tcx gets a clsact filter. Returns enum sluice_attachment or -errno.
 */
SLUICE_API int sluice_link__attach(int program, uint32_t ifindex, uint32_t direction, const char *pin_path);
/* Returns 0 also when nothing was attached or the interface is gone. */
SLUICE_API int sluice_link__detach(uint32_t ifindex, uint32_t direction, const char *pin_path);

/* veths.c: where the pods of this node are connected to it. */

/* How many addresses of one veth's other end are told; what is beyond is left out. */
enum sluice_veth_limit {
	SLUICE_VETH_ADDRESSES = 32,
};

/* A veth of this network namespace whose other end is in another one. 40 bytes. */
struct sluice_veth {
	uint32_t ifindex;
	uint32_t peer;		/* index of the other end, where that is */
	uint32_t network;	/* id of that namespace here; another one may have it when that is gone */
	uint32_t address_count;
	char name[16];
	uint8_t hardware[6];
	uint8_t pad[2];
};

/* Returns the descriptor of a socket for this thread's network namespace, which any thread may use, one at a time; or -errno. */
SLUICE_API int sluice_veths__open(void);
/*
 * Lists the veths, and the addresses of their other ends: SLUICE_VETH_ADDRESSES places of 16 bytes for each, in the order of veths.
 * No namespace is entered. Returns how many there are, -ENOSPC when there are more than capacity, -EAGAIN when links came and went so
 * fast that the list would not be whole, or -errno.
 */
SLUICE_API int sluice_veths__list(int socket, struct sluice_veth *veths, uint8_t *addresses, uint32_t capacity);
/*
 * The id of the network namespace that a file stands for, as struct sluice_veth has it. Returns -ENOENT when nothing here is connected to
 * it, -EINVAL when the file stands for none, or -errno.
 */
SLUICE_API int sluice_veths__network(int socket, const char *path);
SLUICE_API void sluice_veths__close(int socket);

/* cgroup.c: programs on cgroups, each beside what others attach there. */

/* Attaches the program as its type says, or replaces the one whose link is at pin_path, atomically. */
SLUICE_API int sluice_cgroup__attach(int program, const char *cgroup_path, const char *pin_path);
/* Returns 0 also when nothing was attached or the cgroup is gone. */
SLUICE_API int sluice_cgroup__detach(const char *pin_path);

/* map.c: done receives how many entries were written before an error. */
SLUICE_API int sluice_map__update(int map, const void *keys, uint32_t key_size, const void *values, uint32_t value_size,
				  uint32_t count, uint32_t *done);
/* An entry that is not there counts as deleted. */
SLUICE_API int sluice_map__delete(int map, const void *keys, uint32_t key_size, uint32_t count, uint32_t *done);
/* Says the bytes of a key and of a value, and how many entries the map has room for. */
SLUICE_API int sluice_map__sizes(int map, uint32_t sizes[3]);
SLUICE_API int sluice_map__lookup(int map, const void *key, void *value);
/* Copies all entries, at most capacity. Returns how many, or -ENOSPC when there are more. */
SLUICE_API int sluice_map__dump(int map, void *keys, uint32_t key_size, void *values, uint32_t value_size,
				uint32_t capacity);
/* Opens a pinned map. Returns its descriptor, which the caller closes with sluice_map__close. */
SLUICE_API int sluice_map__open(const char *pin_path);
SLUICE_API void sluice_map__close(int map);

/* connections.c */
struct sluice_connection_count {
	uint32_t endpoint;
	uint32_t live;
	uint32_t expired;
};

/*
 * Counts the entries of the map of connections by endpoint, at now_ns. Not a point in time: programs write meanwhile.
 * Returns how many endpoints have any, or -errno; those beyond capacity are left out.
 */
SLUICE_API int sluice_connections__count(int map, uint64_t now_ns, struct sluice_connection_count *counts,
					 uint32_t capacity);

/*
 * names.c: takes addresses away whose names are over for longer than grace_s and that no live connection uses, and those of
 * endpoints that are gone, and writes to shares how many each endpoint has; shares of endpoints that know nothing and ask nothing
 * leave. Not a point in time. Returns how many are left, or -errno; removed receives the others.
 */
SLUICE_API int sluice_names__collect(int known, int connections, int shares, int endpoints, uint64_t now_ns, uint32_t grace_s,
				     uint32_t *removed);

/* ring.c: a consumer of a ring buffer map. */
struct sluice_ring;

/* Stands before each record that was moved out of a ring. 8 bytes. */
struct sluice_record_header {
	uint32_t length;	/* of the record, which is padded to 8 bytes */
	uint32_t pad;
};

/* engine_states: the map to write heartbeats to while draining, or -1. */
SLUICE_API int sluice_ring__open(int map, int engine_states, struct sluice_ring **ring);
/*
 * Waits until there are records, at most timeout_ms, and moves as many as fit into buffer: each behind its header, padded to 8
 * bytes. struct ask records are cut to what their packet needs.
 * Returns how many records; bytes receives how much of buffer they take.
 */
SLUICE_API int sluice_ring__drain(struct sluice_ring *ring, uint8_t *buffer, uint32_t capacity, int timeout_ms,
				  uint32_t *bytes);
/* Ends a wait in sluice_ring__drain; safe from any thread. */
SLUICE_API int sluice_ring__wake(struct sluice_ring *ring);
SLUICE_API void sluice_ring__close(struct sluice_ring *ring);

/* release.c: sending held packets on. */
struct sluice_release;

/*
 * Makes the veth pair interface / peer, where it is not there yet, with the release program at the egress of interface.
 * token: of engine_states. Returns enum sluice_attachment or -errno.
 */
SLUICE_API int sluice_release__open(const char *interface, const char *peer, int program, const char *pin_path,
				    uint32_t token, struct sluice_release **release);
/*
 * Sends the packets of drained asks: towards the stack when the endpoint sent them, towards the pod otherwise, with what
 * their flags say was decided (ASK_DECIDED, ASK_PASSED).
 * offsets: where in buffer each record's header is. Checksums are completed in place.
 * Returns how many were sent; errors[i] receives 0 or -errno of each.
 */
SLUICE_API int sluice_release__send(struct sluice_release *release, uint8_t *buffer, const uint32_t *offsets,
				    uint32_t count, int32_t *errors);
SLUICE_API void sluice_release__close(struct sluice_release *release);
/* Removes the veth pair. Returns 0 also when there is none. */
SLUICE_API int sluice_release__remove(const char *interface);

/*
 * proxy.c: the network of the proxy. It belongs to the thread that opens it, and is gone when the last of its sockets is.
 */
struct sluice_proxy;

/* 32 bytes. */
struct sluice_proxy_parts {
	const char *interface;	/* the node's side of the proxy's veth */
	int32_t program;	/* from_proxy */
	int32_t picker;		/* pick_listener */
	int32_t finder;		/* origin_of */
	int32_t listeners;	/* map proxy_listeners */
	int32_t engine_states;
	int32_t backlog;
};

/*
 * Moves this thread into a network namespace of its own in which every address is local, connected by a veth. sockets receives the
 * descriptors of sockets that listen, by enum proxy_listener; negative where there is none. Returns 0, or -errno; the thread stays
 * where it was then.
 */
SLUICE_API int sluice_proxy__open(const struct sluice_proxy_parts *parts, int32_t *sockets, struct sluice_proxy **proxy);
/* Says that the proxy takes no new connections; it goes on with those that there are. */
SLUICE_API void sluice_proxy__drain(struct sluice_proxy *proxy);
/* The same, when its thread has ended; its sockets are others'. */
SLUICE_API void sluice_proxy__close(struct sluice_proxy *proxy);
/*
 * Begins a connection from the address of a pod, 16 bytes as everywhere, to a backend; port in host order. All zero: from the node,
 * in whose network the calling thread is. beside: a socket in the proxy's network, where it is to be.
 * Returns the descriptor of a socket that is connecting or connected, or -errno.
 */
SLUICE_API int sluice_proxy__connect(int beside, const uint8_t *from, const uint8_t *to, uint32_t port);

/*
 * sockets.c: the proxy's sockets, in turns, on memory that is named once (see flow.c for why).
 */
struct sluice_sockets;

/* 16 bytes. */
struct sluice_sockets_turn {
	int32_t timeout_ms;
	uint32_t command_count;
	uint32_t event_count;
	uint32_t refused_count;	/* connections of nobody whom policy sends here; counts up */
};

enum sluice_socket_operation {
	SLUICE_SOCKET_WRITE_IN = 1,	/* from the memory `in`, where they came */
	SLUICE_SOCKET_WRITE_OUT = 2,
	SLUICE_SOCKET_END = 3,		/* says that no more follows, when everything is written */
	SLUICE_SOCKET_CLOSE = 4,	/* when everything is written; the number is free then */
	SLUICE_SOCKET_RESET = 5,
	SLUICE_SOCKET_PAUSE = 6,	/* reads nothing */
	SLUICE_SOCKET_RESUME = 7,
};

/* 16 bytes. */
struct sluice_socket_command {
	uint32_t id;
	uint32_t operation;
	uint32_t offset;
	uint32_t length;
};

enum sluice_socket_event {
	SLUICE_SOCKET_ACCEPTED = 1,	/* offset: of struct sluice_socket_ends */
	SLUICE_SOCKET_CONNECTED = 2,
	SLUICE_SOCKET_DATA = 3,		/* in the memory `in`, until the next turn */
	SLUICE_SOCKET_ENDED = 4,	/* the other side says no more */
	SLUICE_SOCKET_BLOCKED = 5,	/* not everything could be written; DRAINED follows */
	SLUICE_SOCKET_DRAINED = 6,
	SLUICE_SOCKET_GONE = 7,		/* length: errno, or 0; it is still to be closed */
};

/* One event. 16 bytes. */
struct sluice_socket_record {
	uint32_t id;
	uint32_t kind;		/* enum sluice_socket_event */
	uint32_t offset;
	uint32_t length;
};

/* Who has connected, and what he meant to connect to. 40 bytes. Ports in host order. */
struct sluice_socket_ends {
	uint8_t remote[16];
	uint8_t local[16];
	uint16_t remote_port;
	uint16_t local_port;
	uint32_t endpoint;	/* of a process; 0 = of a pod, whose address says which */
};

struct sluice_sockets_memory {
	struct sluice_sockets_turn *turn;
	uint8_t *in;
	uint8_t *out;
	struct sluice_socket_command *commands;
	struct sluice_socket_record *events;
	uint64_t in_capacity;
	uint64_t out_capacity;
	uint64_t event_capacity;
};

/*
 * Serves listening sockets, as sluice_proxy__open leaves them, from this thread. The memory must outlive it. Proxy, which may be
 * NULL, and listeners belong to it from then on; where it fails they are closed.
 */
SLUICE_API int sluice_sockets__open(struct sluice_proxy *proxy, const int32_t *listeners, const struct sluice_sockets_memory *memory,
				    struct sluice_sockets **sockets);
/* Does the first command_count commands, waits until something happens and tells it in events. Returns how many, or -errno. */
SLUICE_API int sluice_sockets__turn(struct sluice_sockets *sockets);
/* Does the commands only. Bytes that have come stay where they are. */
SLUICE_API int sluice_sockets__commit(struct sluice_sockets *sockets);
/* Begins a connection as sluice_proxy__connect does, in the proxy's network or at the node. Returns the number of its socket, or -errno. */
SLUICE_API int sluice_sockets__connect(struct sluice_sockets *sockets, const uint8_t *from, const uint8_t *to, uint32_t port);
/* Gives up a socket without closing it; returns its descriptor, or -ENOENT. */
SLUICE_API int sluice_sockets__take(struct sluice_sockets *sockets, uint32_t id);
/* Ends a wait; safe from any thread until it is closed. */
SLUICE_API int sluice_sockets__wake(struct sluice_sockets *sockets);
/* Resets every connection and closes everything; from any thread, when the one that served has ended. */
SLUICE_API void sluice_sockets__close(struct sluice_sockets *sockets);

/*
 * flow.c: a flow worker's turn. A call whose arguments are made beforehand, or that has none, costs ffi-napi less than 1.5 us, and
 * one whose arguments it converts 5 to 20, with garbage whose collection stops the thread for up to 200 ms; so the memory is named
 * once, and the numbers of a turn stand in it.
 */
struct sluice_flow_turn {
	int32_t timeout_ms;		/* for drain */
	uint32_t verdict_count;		/* for settle */
	uint32_t release_count;
};

struct sluice_flow_memory {
	const struct sluice_flow_turn *turn;
	uint8_t *batch;			/* records as sluice_ring__drain gives them */
	const uint8_t *verdict_keys;	/* struct verdict_key, packed */
	const uint8_t *verdict_values;	/* struct verdict_entry, packed */
	const uint32_t *offsets;	/* of the records to release */
	int32_t *errors;		/* of each release, 0 or -errno */
	uint64_t batch_capacity;
};

/* Makes the flow that this thread's turns are for. The memory must outlive it. */
SLUICE_API int sluice_flow__open(struct sluice_ring *asks, struct sluice_release *release, int verdicts,
				 const struct sluice_flow_memory *memory);
/* Waits for records and moves them to the batch; returns how many, or -ENODEV when this thread has no flow. */
SLUICE_API int sluice_flow__drain(void);
/*
 * Writes the first verdict_count verdicts, and then releases the first release_count packets.
 * Returns how many could not be released, or -errno when a verdict was not written: nothing is released then.
 */
SLUICE_API int sluice_flow__settle(void);

/*
 * memory.c: maps a file of that size, made anew where it has another one; address receives where. It stays mapped
 * until the process ends. Returns 0 or -errno.
 */
SLUICE_API int sluice_memory__map(const char *path, uint64_t bytes, uint64_t *address);

/*
 * program.c: one packet through one program. Tests look at programs so; `explain` is asked so for people, and by the proxy for whom it
 * serves and where it may connect to. ifindex becomes skb->ifindex; mark is the packet's, and receives the one that it has afterwards.
 */
SLUICE_API int sluice_program__test(int program, const uint8_t *packet, uint32_t length, uint32_t ifindex,
				    uint32_t *mark, int32_t *outcome, uint32_t *duration_ns);
/* The same with mark and priority of the packet; words receives EXPLANATION_MAX words of answer, by enum explanation. Returns its outcome, or -errno. */
SLUICE_API int sluice_program__ask(int program, const uint8_t *packet, uint32_t length, uint32_t mark, uint32_t priority,
				   uint32_t *words);

#endif
