/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of the proxy: to backends, from the address of a pod or from the node, and of clients, with what they meant. */
#define _GNU_SOURCE
#include "proxy.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

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

static int address_is_none(const uint8_t *address)
{
	static const uint8_t none[16];

	return !memcmp(address, none, sizeof(none));
}

/* Returns the descriptor of a socket in this thread's network, or -errno. */
static int socket_make(int family)
{
	int made = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return made < 0 ? -errno : made;
}

/* The same in another network, where the socket stays; this thread comes back to its own. */
static int socket_make_in(int network, int own, int family)
{
	int made;

	if (setns(network, CLONE_NEWNET))
		return -errno;
	made = socket_make(family);
	if (setns(own, CLONE_NEWNET)) {
		int error = -errno;

		if (made >= 0)
			close(made);
		return error;
	}
	return made;
}

/* The same in the network that another socket is in. */
static int socket_make_beside(int beside, int family)
{
	int network = ioctl(beside, SIOCGSKNS), own, made;

	if (network < 0)
		return -errno;
	own = open(OWN_NETWORK, O_RDONLY | O_CLOEXEC);
	made = own < 0 ? -errno : socket_make_in(network, own, family);
	if (own >= 0)
		close(own);
	close(network);
	return made;
}

/* Has a connection begin at an address of a pod. The port is found when the other end is known: one serves a connection to each backend. */
static int socket_bind(int connection, const struct sockaddr_storage *local, socklen_t length)
{
	int ipv4 = local->ss_family == AF_INET, on = 1;

	if (setsockopt(connection, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) ||
	    (ipv4 ? setsockopt(connection, SOL_IP, IP_TRANSPARENT, &on, sizeof(on))
		  : setsockopt(connection, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof(on))) ||
	    bind(connection, (const void *)local, length))
		return -errno;
	return 0;
}

/* Has a socket connect; closes it where it cannot. Returns it, or -errno; passes an error in its place on. */
static int socket_connect(int connection, const uint8_t *from, const struct sockaddr_storage *remote, socklen_t length)
{
	struct sockaddr_storage local = {};
	int on = 1, error = 0;

	if (connection < 0)
		return connection;
	if (setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		error = -errno;
	if (!error && !address_is_none(from))
		error = address_fill(&local, from, 0) == length ? socket_bind(connection, &local, length) : -EAFNOSUPPORT;
	if (!error && connect(connection, (const void *)remote, length) && errno != EINPROGRESS)
		error = -errno;
	if (!error)
		return connection;
	close(connection);
	return error;
}

int proxy_connect(const struct sluice_proxy *proxy, const uint8_t *from, const uint8_t *to, uint32_t port)
{
	struct sockaddr_storage remote;
	socklen_t length = address_fill(&remote, to, port);
	int made;

	if (!address_is_none(from))
		made = socket_make(remote.ss_family);
	else
		made = proxy ? socket_make_in(proxy->node, proxy->network, remote.ss_family) : -ENODEV;
	return socket_connect(made, from, &remote, length);
}

int sluice_proxy__connect(int beside, const uint8_t *from, const uint8_t *to, uint32_t port)
{
	struct sockaddr_storage remote;
	socklen_t length = address_fill(&remote, to, port);
	int made = address_is_none(from) ? socket_make(remote.ss_family) : socket_make_beside(beside, remote.ss_family);

	return socket_connect(made, from, &remote, length);
}

/* Finds what a process meant that is connected to a listener of the proxy. Returns 0, -ENOENT when policy has sent nobody there, or -errno. */
static int proxy_origin(const struct sluice_proxy *proxy, const struct translation *listener, const struct translation *client,
			struct origin *origin)
{
	struct accepted packet = { .local = *listener, .remote = *client };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = &packet, .data_size_in = sizeof(packet), .data_out = &packet,
		    .data_size_out = sizeof(packet), .repeat = 1);
	int error;

	/* Sockets are looked for in the network of the thread that asks. */
	if (setns(proxy->node, CLONE_NEWNET))
		return -errno;
	error = bpf_prog_test_run_opts(proxy->finder, &options);
	if (setns(proxy->network, CLONE_NEWNET))
		return -errno;
	if (error || options.retval)
		return error ? error : -ENOENT;
	*origin = packet.origin;
	return 0;
}

static void end_read(struct translation *end, const struct sockaddr_in6 *from)
{
	memcpy(end->address, &from->sin6_addr, sizeof(end->address));
	end->port = from->sin6_port;
}

int proxy_ends(const struct sluice_proxy *proxy, struct sluice_socket_ends *ends, int fd, enum proxy_listener listener)
{
	struct translation client = {}, meant = {};
	struct origin origin = {};
	struct sockaddr_in6 address;
	socklen_t length = sizeof(address);
	int error;

	if (getpeername(fd, (void *)&address, &length))
		return -errno;
	end_read(&client, &address);
	length = sizeof(address);
	if (getsockname(fd, (void *)&address, &length))
		return -errno;
	end_read(&meant, &address);
	if (listener != PROXY_LISTENER_PODS) {
		error = proxy ? proxy_origin(proxy, &meant, &client, &origin) : -ENOENT;
		if (error)
			return error;
		meant = origin.opened;
	}
	memcpy(ends->remote, client.address, sizeof(ends->remote));
	memcpy(ends->local, meant.address, sizeof(ends->local));
	ends->remote_port = ntohs(client.port);
	ends->local_port = ntohs(meant.port);
	ends->endpoint = origin.endpoint;
	return 0;
}
