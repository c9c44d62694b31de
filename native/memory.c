/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that a file keeps: what is written there survives this process, however it ends. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int sluice_memory__map(const char *path, uint64_t bytes, uint64_t *address)
{
	struct stat status;
	void *memory;
	int file, error;

	/* Never cut a file that somebody may have mapped, who would die of it: another size means another file. */
	if (!lstat(path, &status) && (!S_ISREG(status.st_mode) || (uint64_t)status.st_size != bytes) && unlink(path))
		return -errno;
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0)
		return -errno;
	/* Room is taken now: a full disk must not become a SIGBUS later. */
	error = -posix_fallocate(file, 0, (off_t)bytes);
	if (!error) {
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		if (memory == MAP_FAILED)
			error = -errno;
		else
			*address = (uint64_t)(uintptr_t)memory;
	}
	close(file);
	return error;
}
