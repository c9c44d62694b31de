/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network that the proxy lives in: a namespace that nobody else uses, so that no rule of the node's (address translation,
 * connection tracking, reverse path filters, marks) meets half of what it does.
 *
 * What enters through its veth is local, whatever its address; what leaves goes through the veth. A socket may be bound to any
 * address there: the service's for a client, the pod's for a backend.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define INSIDE "proxy"
#define LOCAL_TABLE 100
/* Above the range that pods take their own ports from, so that nobody takes one connection for the other. */
#define PORTS "61000 65535"

static struct engine_state *published;
/* Of the network that this process has opened last, or -1. */
static int opened = -1;

static int file_write(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC), error = 0;

	if (file < 0)
		return -errno;
	if (write(file, text, strlen(text)) < 0)
		error = -errno;
	close(file);
	return error;
}

/* Where packets enter and leave through one interface, a reverse path says nothing. */
static int reverse_path_unfiltered(const char *interface, const char *mode)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/rp_filter", interface);
	return file_write(path, mode);
}

static int network_fill(void)
{
	static const int families[] = { AF_INET, AF_INET6 };
	int error = netlink_link_up("lo", 0, 0);

	error = error ? error : netlink_link_up(INSIDE, IFF_NOARP, 0);
	error = error ? error : reverse_path_unfiltered("all", "0");
	error = error ? error : reverse_path_unfiltered(INSIDE, "0");
	error = error ? error : file_write("/proc/sys/net/ipv4/ip_local_port_range", PORTS);
	for (int i = 0; i < 2 && !error; i++) {
		/* A kernel without IPv6 has nothing to steer there. */
		if (families[i] == AF_INET6 && access("/proc/sys/net/ipv6", F_OK))
			break;
		error = netlink_rule_add(families[i], INSIDE, LOCAL_TABLE);
		error = error ? error : netlink_route_default(families[i], if_nametoindex("lo"), RTN_LOCAL, LOCAL_TABLE);
		error = error ? error : netlink_route_default(families[i], if_nametoindex(INSIDE), RTN_UNICAST, RT_TABLE_MAIN);
	}
	return error;
}

static int socket_transparent(int socket)
{
	int on = 1;

	return setsockopt(socket, SOL_IP, IP_TRANSPARENT, &on, sizeof(on)) || setsockopt(socket, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof(on));
}

static int listener_open(int network, int picker, int listeners, int backlog)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(1) };
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), off = 0, on = 1, error;
	uint32_t key = 0;
	uint64_t value;

	if (listener < 0)
		return -errno;
	value = (uint64_t)listener;
	if (setsockopt(listener, SOL_IPV6, IPV6_V6ONLY, &off, sizeof(off)) || setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    socket_transparent(listener) || bind(listener, (void *)&any, sizeof(any)) || listen(listener, backlog)) {
		error = -errno;
	} else {
		error = bpf_map_update_elem(listeners, &key, &value, BPF_ANY);
		if (!error)
			error = bpf_link_create(picker, network, BPF_SK_LOOKUP, NULL);
	}
	if (error >= 0)
		return listener;
	close(listener);
	return error;
}

static struct engine_state *state_map(int engine_states)
{
	void *memory = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, engine_states, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* Makes the veth from the node's side of things. Returns the index of its interface there, or -errno. */
static int veth_open(const char *interface, int network, int program)
{
	int error = netlink_link_delete(interface);

	error = error ? error : netlink_veth_add(interface, INSIDE, network);
	error = error ? error : netlink_link_up(interface, 0, 0);
	/* Loose: what goes on to other nodes has the address of a pod that is elsewhere than here. */
	error = error ? error : reverse_path_unfiltered(interface, "2");
	error = error ? error : link_attach_passing(program, if_nametoindex(interface), DIRECTION_EGRESS);
	return error < 0 ? error : (int)if_nametoindex(interface);
}

int sluice_proxy__open(const char *interface, int program, int picker, int listeners, int engine_states, int backlog)
{
	int outside = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), network = -1, listener, ifindex;

	if (outside < 0)
		return -errno;
	if (unshare(CLONE_NEWNET)) {
		listener = -errno;
		goto end;
	}
	network = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (network < 0 || setns(outside, CLONE_NEWNET)) {
		listener = -errno;
		goto end;
	}
	ifindex = veth_open(interface, network, program);
	if (ifindex < 0) {
		listener = ifindex;
		goto end;
	}
	if (setns(network, CLONE_NEWNET)) {
		listener = -errno;
		goto end;
	}
	listener = network_fill();
	listener = listener ? listener : listener_open(network, picker, listeners, backlog);
	if (listener >= 0) {
		published = published ? published : state_map(engine_states);
		if (published) {
			sluice_proxy__beat();
			__atomic_store_n(&published->proxy, (uint32_t)ifindex, __ATOMIC_RELEASE);
			if (opened >= 0)
				close(opened);
			opened = network;
			network = -1;
			goto end;
		}
		close(listener);
		listener = -ENOMEM;
	}
	(void)setns(outside, CLONE_NEWNET);
end:
	if (network >= 0)
		close(network);
	close(outside);
	return listener;
}

int sluice_proxy__join(void)
{
	return opened < 0 ? -ENODEV : setns(opened, CLONE_NEWNET) ? -errno : 0;
}

void sluice_proxy__beat(void)
{
	if (published)
		__atomic_store_n(&published->proxy_heartbeat_ns, sluice_kernel__now_ns(), __ATOMIC_RELAXED);
}

void sluice_proxy__close(void)
{
	if (published)
		__atomic_store_n(&published->proxy_heartbeat_ns, 0, __ATOMIC_RELAXED);
}

static int address_is_ipv4(const uint8_t *address)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(address, mapped, sizeof(mapped));
}

static socklen_t address_fill(struct sockaddr_storage *storage, const uint8_t *address, uint32_t port)
{
	if (address_is_ipv4(address)) {
		struct sockaddr_in *ipv4 = (void *)storage;

		*ipv4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
		memcpy(&ipv4->sin_addr, address + 12, 4);
		return sizeof(*ipv4);
	}
	struct sockaddr_in6 *ipv6 = (void *)storage;

	*ipv6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	memcpy(&ipv6->sin6_addr, address, 16);
	return sizeof(*ipv6);
}

int sluice_proxy__connect(const uint8_t *from, const uint8_t *to, uint32_t port)
{
	struct sockaddr_storage local, remote;
	socklen_t length = address_fill(&local, from, 0);
	int ipv4 = local.ss_family == AF_INET, on = 1, error;
	int connection = socket(local.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (connection < 0)
		return -errno;
	if (address_fill(&remote, to, port) != length) {
		error = -EAFNOSUPPORT;
		goto fail;
	}
	/* The port is found when the other end is known: one port serves a connection to each backend. */
	if (setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    setsockopt(connection, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) ||
	    (ipv4 ? setsockopt(connection, SOL_IP, IP_TRANSPARENT, &on, sizeof(on))
		  : setsockopt(connection, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof(on))) ||
	    bind(connection, (void *)&local, length) || (connect(connection, (void *)&remote, length) && errno != EINPROGRESS)) {
		error = -errno;
		goto fail;
	}
	return connection;
fail:
	close(connection);
	return error;
}
