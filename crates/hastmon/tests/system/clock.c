/* Preloaded, it moves the time of day by as many seconds as the file named by SHIFT says, and no other clock. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void)
{
    char text[32] = "";
    const char *path = getenv("SHIFT");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) < 0)
            text[0] = '\0';
        close(file);
    }
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int error = (int)syscall(SYS_clock_gettime, clock, now);
    if (error == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += shift();
    return error;
}

int gettimeofday(struct timeval *now, void *zone)
{
    int error = (int)syscall(SYS_gettimeofday, now, zone);
    if (error == 0)
        now->tv_sec += shift();
    return error;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result != NULL)
        *result = now.tv_sec;
    return now.tv_sec;
}
