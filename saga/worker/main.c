/* saga-worker's main. */
#include "saga/worker/worker.h"

int main(int argc, char **argv)
{
    return daemon_main(&worker_program, argc, argv);
}
