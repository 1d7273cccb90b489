"""What may lie on a disk after the power failed, rebuilt from the calls of a run.

The model is that of ALICE (Pillai et al., OSDI 2014): bytes are durable once their file was fsynced, names once their folder
was; whatever came later may be there, be missing, or be there in part, in any order. A folder's fsync does not make its files'
bytes durable, nor a file's fsync its name.
"""
import hashlib
import pathlib


class Inode:
    """A file (`bytes`, `writes` since its last fsync) or a folder (`names`)."""

    def __init__(self, folder):
        self.folder = folder
        self.durable = b""
        self.writes = []  # ("write", offset, bytes) or ("cut", size)

    def now(self):
        return apply_writes(self.durable, self.writes)


def apply_writes(content, writes):
    content = bytearray(content)
    for kind, at, *data in writes:
        if kind == "cut":
            content = content[:at] + bytes(max(0, at - len(content)))
        else:
            if len(content) < at:
                content += bytes(at - len(content))
            content[at:at + len(data[0])] = data[0]
    return bytes(content)


class Change:
    """One call's effect on names: entries set (inode) or taken away (None), as one."""

    def __init__(self, call, *entries):
        self.call, self.entries = call, entries  # (folder's inode number, name, inode number or None)
        self.synced = set()

    def pending(self):
        return [entry for entry in self.entries if entry[0] not in self.synced]


class Disk:
    """Follows a trace; `root` is the folder that the calls are below, there and empty at first."""

    def __init__(self, root):
        self.root = str(pathlib.Path(root).resolve())
        self.inodes = {0: Inode(True)}
        self.live = {0: {}}      # folder's number -> name -> number, as the running system sees it
        self.settled = {0: {}}   # the same, durable
        self.changes = []        # pending
        self.last = 0

    def find(self, path):
        number = 0
        for part in self.parts(path):
            number = self.live[number][part]
        return number

    def parts(self, path):
        if path == self.root:
            return []
        assert path.startswith(self.root + "/"), path
        return path[len(self.root) + 1:].split("/")

    def place(self, path):
        *parents, name = self.parts(path)
        number = 0
        for part in parents:
            number = self.live[number][part]
        return number, name

    def exists(self, path):
        try:
            self.find(path)
        except KeyError:
            return False
        return True

    def change(self, call, *entries):
        for folder, name, number in entries:
            if number is None:
                self.live[folder].pop(name, None)
            else:
                self.live[folder][name] = number
        self.changes.append(Change(call, *entries))

    def make(self, call, path, folder):
        self.last += 1
        self.inodes[self.last] = Inode(folder)
        if folder:
            self.live[self.last], self.settled[self.last] = {}, {}
        self.change(call, (*self.place(path), self.last))

    def take(self, call):
        """One more call happened, and went well."""
        if call.call == "mkdir":
            if call.path != self.root and not self.exists(call.path):
                self.make(call, call.path, True)
        elif call.call == "open":
            if not self.exists(call.path):
                self.make(call, call.path, False)
            elif call.truncated:
                self.inodes[self.find(call.path)].writes.append(("cut", 0))
        elif call.call == "write":
            self.inodes[self.find(call.path)].writes.append(("write", call.offset, call.bytes))
        elif call.call == "truncate":
            self.inodes[self.find(call.path)].writes.append(("cut", call.offset))
        elif call.call == "fsync":
            self.sync(self.find(call.path))
        elif call.call == "rename":
            number = self.find(call.path)
            self.change(call, (*self.place(call.path), None), (*self.place(call.to), number))
        elif call.call in ("unlink", "rmdir"):
            if self.exists(call.path):
                self.change(call, (*self.place(call.path), None))
        elif call.call == "link":
            self.change(call, (*self.place(call.to), self.find(call.path)))
        elif call.call != "close":
            raise ValueError(f"no rule for {call}")

    def sync(self, number):
        inode = self.inodes[number]
        if not inode.folder:
            inode.durable, inode.writes = inode.now(), []
            return
        for change in self.changes:
            for folder, name, target in change.entries:
                if folder == number and folder not in change.synced:
                    set_entry(self.settled, folder, name, target)
            change.synced.add(number)
        self.changes = [change for change in self.changes if change.pending()]

    # ---- what may be on the disk now ----

    def tree(self, changes, contents):
        """{relative path: bytes, or None for a folder} with these of the pending changes made."""
        names = {folder: dict(entries) for folder, entries in self.settled.items()}
        for change in changes:
            for folder, name, target in change.pending():
                set_entry(names, folder, name, target)
        found = {}

        def walk(number, prefix):
            for name, target in sorted(names[number].items()):
                path = prefix + name
                if self.inodes[target].folder:
                    found[path] = None
                    if path.count("/") < 20:
                        walk(target, path + "/")
                else:
                    found[path] = contents(target)
        walk(0, "")
        return found

    def subsets(self):
        """Which pending changes of names may have reached the disk: prefixes, all but one, one alone."""
        changes = self.changes
        found = [changes[:count] for count in range(len(changes), -1, -1)]
        if len(changes) > 1:
            found += [changes[:i] + changes[i + 1:] for i in range(len(changes))]
            found += [[change] for change in changes]
        return found

    def contents(self):
        """Which bytes may have: all, none, half, zeros in their place; of all files or of one alone."""
        open_files = [number for number, inode in self.inodes.items() if inode.writes]

        def damage(kind, only=None):
            def content(number):
                inode = self.inodes[number]
                if not inode.writes or (only is not None and number != only):
                    return inode.now()
                if kind == "none":
                    return inode.durable
                if kind == "half":
                    return apply_writes(inode.durable, halved(inode.writes))
                if kind == "zeros":
                    return apply_writes(inode.durable, [(k, at, *(bytes(len(d)) for d in data)) for k, at, *data in inode.writes])
                return inode.now()
            return content
        found = [damage("all")]
        if open_files:
            found += [damage(kind) for kind in ("none", "half", "zeros")]
        if len(open_files) > 1:
            found += [damage(kind, only) for only in open_files for kind in ("none", "zeros")]
        return found

    def states(self):
        """Every distinct tree that the model allows after the calls so far."""
        seen = set()
        for content in self.contents():
            for changes in self.subsets():
                tree = self.tree(changes, content)
                key = key_of(tree)
                if key not in seen:
                    seen.add(key)
                    yield key, tree


def halved(writes):
    """The first half of the bytes: of many writes the first half of them, of one its first half."""
    if len(writes) > 1:
        return writes[:len(writes) // 2]
    kind, at, *data = writes[0]
    return [(kind, at, data[0][:len(data[0]) // 2])] if data else []


def set_entry(names, folder, name, target):
    if target is None:
        names[folder].pop(name, None)
    else:
        names[folder][name] = target


def key_of(tree):
    digest = hashlib.sha256()
    for path, content in sorted(tree.items()):
        digest.update(f"{path}\0{'folder' if content is None else len(content)}\0".encode())
        digest.update(content or b"")
    return digest.hexdigest()


def write_tree(tree, root):
    root = pathlib.Path(root)
    root.mkdir(parents=True)
    for path, content in sorted(tree.items()):
        if content is None:
            (root / path).mkdir(exist_ok=True)
        else:
            (root / path).write_bytes(content)


def read_tree(root):
    root = pathlib.Path(root)
    return {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}
