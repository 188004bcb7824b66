/* print.c: the tables as mermaid state diagrams. */
#include "saga/machine/table.h"

/* One of the two tables. */
struct drawing {
    MACHINE_ROWS struct table_row *rows;
    size_t row_count;
    int state_count, event_count;
    uint32_t ended; /* states */
    const char *(*state_name)(int state);
    const char *(*event_name)(int event);
};

static const char *step_name(int state)
{
    return step_state_name((enum step_state)state);
}

static const char *step_event(int event)
{
    return step_event_name((enum step_event)event);
}

static const char *saga_name(int state)
{
    return saga_state_name((enum saga_state)state);
}

static const char *saga_event(int event)
{
    return saga_event_name((enum saga_event)event);
}

/* The events by which a row leads from one state to another. */
static uint32_t events_between(const struct drawing *drawing, int from, int to)
{
    uint32_t events = 0;
    for (size_t i = 0; i < drawing->row_count; i++) {
        if ((drawing->rows[i].states & VALUE_BIT(from)) && drawing->rows[i].next == to)
            events |= drawing->rows[i].events;
    }
    return events;
}

static void print_edge(const struct drawing *drawing, int from, int to, FILE *out)
{
    uint32_t events = events_between(drawing, from, to);
    if (events == 0 || from == to)
        return;
    fprintf(out, "    %s --> %s: ", drawing->state_name(from), drawing->state_name(to));
    const char *comma = "";
    for (int event = 0; event < drawing->event_count; event++) {
        if (events & VALUE_BIT(event)) {
            fprintf(out, "%s%s", comma, drawing->event_name(event));
            comma = ", ";
        }
    }
    fprintf(out, "\n");
}

static void print_drawing(const struct drawing *drawing, FILE *out)
{
    int count = drawing->state_count;
    fprintf(out, "```mermaid\nstateDiagram-v2\n    direction LR\n    [*] --> %s\n",
            drawing->state_name(0));
    for (int from = 0; from < count; from++) {
        for (int to = 0; to < count; to++)
            print_edge(drawing, from, to, out);
    }
    for (int state = 0; state < count; state++) {
        if (drawing->ended & VALUE_BIT(state))
            fprintf(out, "    %s --> [*]\n", drawing->state_name(state));
    }
    fprintf(out, "```\n");
}

void machine_print_mermaid(FILE *out)
{
    struct drawing saga = {.state_count = SAGA_STATE_COUNT,
                           .event_count = SAGA_EVENT_COUNT,
                           .ended = SAGA_STATES_ENDED,
                           .state_name = saga_name,
                           .event_name = saga_event};
    struct drawing step = {.state_count = STEP_STATE_COUNT,
                           .event_count = STEP_EVENT_COUNT,
                           .state_name = step_name,
                           .event_name = step_event};
    saga.rows = saga_rows(&saga.row_count);
    saga.row_count--; /* the last is of what cannot be, and would lead from everywhere to STUCK */
    step.rows = step_rows(&step.row_count);
    fprintf(out, "A saga:\n\n");
    print_drawing(&saga, out);
    fprintf(out, "\nA step:\n\n");
    print_drawing(&step, out);
}
