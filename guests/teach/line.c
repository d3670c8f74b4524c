/* Line editing on the serial console: cursor keys, the usual control keys, and a history. */
#include "kernel.h"

enum { SIZE = 80, HISTORY = 8 };
enum { CONTROL_A = 1, CONTROL_C = 3, CONTROL_D = 4, CONTROL_E = 5, CONTROL_K = 11, CONTROL_L = 12, CONTROL_U = 21, ESCAPE = 27 };

static char history[HISTORY][SIZE];
static int history_count;

static int length_of(const char *text)
{
    int length = 0;
    while (text[length])
        length++;
    return length;
}

static void copy(char *to, const char *from, int size)
{
    int i = 0;
    for (; from[i] && i < size - 1; i++)
        to[i] = from[i];
    to[i] = 0;
}

/* Draws the line anew and puts the cursor in its place; ESC [K clears to the end of the line (ECMA-48 EL). */
static void draw(const char *prompt, const char *line, int cursor)
{
    print("\r%s%s\033[K\r%s", prompt, line, prompt);
    for (int i = 0; i < cursor; i++)
        serial_put(line[i]);
}

/* One key; cursor keys come as ESC [ A..D, H, F (ECMA-48) and are turned into the control keys with the same sense. */
static int read_key(void)
{
    int key = serial_get();
    if (key != ESCAPE)
        return key;
    key = serial_get();
    if (key != '[' && key != 'O')
        return 0;
    key = serial_get();
    switch (key) {
    case 'A': return 16;                        /* up: Ctrl-P */
    case 'B': return 14;                        /* down: Ctrl-N */
    case 'C': return 6;                         /* right: Ctrl-F */
    case 'D': return 2;                         /* left: Ctrl-B */
    case 'H': return CONTROL_A;
    case 'F': return CONTROL_E;
    case '3': return serial_get() == '~' ? 127 + 128 : 0;       /* Delete */
    }
    return 0;
}

void read_line(const char *prompt, char *line, int size)
{
    int length = 0, cursor = 0, past = history_count;
    if (size > SIZE)
        size = SIZE;
    line[0] = 0;
    print("%s", prompt);
    for (;;) {
        int key = read_key();
        if (key == '\r' || key == '\n')
            break;
        if (key >= ' ' && key < 127) {
            if (length + 1 >= size)
                continue;
            for (int i = ++length; i > cursor; i--)
                line[i] = line[i - 1];
            line[cursor++] = key;
            if (cursor == length) {             /* at the end nothing else moves: a terminal shows it as typed */
                serial_put(key);
                continue;
            }
        } else if ((key == 8 || key == 127) && cursor > 0) {
            cursor--;
            for (int i = cursor; i < length; i++)
                line[i] = line[i + 1];
            length--;
        } else if (key == 127 + 128 && cursor < length) {
            for (int i = cursor; i < length; i++)
                line[i] = line[i + 1];
            length--;
        } else if (key == CONTROL_D && length == 0) {
            copy(line, "poweroff", size);
            length = 8;
            print("%s", line);
            break;
        } else if (key == CONTROL_C) {
            print("^C\n");
            length = cursor = 0;
            past = history_count;
        } else if (key == CONTROL_A) {
            cursor = 0;
        } else if (key == CONTROL_E) {
            cursor = length;
        } else if (key == 2 && cursor > 0) {
            cursor--;
        } else if (key == 6 && cursor < length) {
            cursor++;
        } else if (key == CONTROL_K) {
            length = cursor;
        } else if (key == CONTROL_U) {
            length = cursor = 0;
        } else if (key == CONTROL_L) {
            print("\033[H\033[2J");
        } else if ((key == 16 && past > 0 && history_count - past < HISTORY - 1) || (key == 14 && past < history_count)) {
            past += key == 16 ? -1 : 1;
            copy(line, past < history_count ? history[past % HISTORY] : "", size);
            length = cursor = length_of(line);
        }
        line[length] = 0;
        draw(prompt, line, cursor);
    }
    line[length] = 0;
    print("\n");
    if (length)
        copy(history[history_count++ % HISTORY], line, SIZE);
}
