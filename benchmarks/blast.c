/* Sends a file of Redis commands, already encoded, over a Unix socket and waits for all replies.
 * Usage: blast SOCKET FILE. FILE must end with a PING: its +PONG is the end of the last reply.
 * Prints the nanoseconds it took. It costs next to nothing itself, so what it measures is the server. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LAST "+PONG\r\n"
#define LAST_LENGTH 7

static char reply[1 << 20];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static char *read_whole(const char *path, size_t *length) {
    struct stat status;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &status) != 0) fail(path);
    char *content = malloc((size_t)status.st_size);
    if (!content) fail("malloc");
    for (*length = 0; *length < (size_t)status.st_size;) {
        ssize_t got = read(file, content + *length, (size_t)status.st_size - *length);
        if (got <= 0) fail(path);
        *length += (size_t)got;
    }
    close(file);
    return content;
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    strcpy(address.sun_path, path);
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof address) != 0) fail(path);
    if (fcntl(server, F_SETFL, O_NONBLOCK) != 0) fail("fcntl");
    return server;
}

/* Keeps the last bytes seen in `tail`; returns whether they are the last reply. */
static int is_last(char *tail, size_t got) {
    for (size_t i = got > LAST_LENGTH ? got - LAST_LENGTH : 0; i < got; i++) {
        memmove(tail, tail + 1, LAST_LENGTH - 1);
        tail[LAST_LENGTH - 1] = reply[i];
    }
    return memcmp(tail, LAST, LAST_LENGTH) == 0;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: %s SOCKET FILE\n", arguments[0]);
        return 2;
    }
    size_t length, sent = 0;
    char *commands = read_whole(arguments[2], &length), tail[LAST_LENGTH] = {0};
    int server = connect_to(arguments[1]);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (;;) {
        struct pollfd wait = {.fd = server, .events = POLLIN | (sent < length ? POLLOUT : 0)};
        if (poll(&wait, 1, 60000) <= 0) fail("poll");
        if (wait.revents & POLLOUT) {
            ssize_t wrote = write(server, commands + sent, length - sent);
            if (wrote < 0 && errno != EAGAIN) fail("write");
            if (wrote > 0) sent += (size_t)wrote;
        }
        if (wait.revents & (POLLIN | POLLHUP | POLLERR)) {
            ssize_t got = read(server, reply, sizeof reply);
            if (got == 0 || (got < 0 && errno != EAGAIN)) fail("read");
            if (got > 0 && is_last(tail, (size_t)got) && sent == length) break;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%lld\n", (end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec);
    return 0;
}
