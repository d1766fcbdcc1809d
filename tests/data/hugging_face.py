"""A stand-in for Hugging Face's datasets: what of `datasets.Dataset` is asked for, with its names and behaviour."""


class Image:
    """The feature of a column of images."""


class ClassLabel:
    """The feature of a column of labels.

    Args:
        names: Of the classes.
    """

    def __init__(self, names):
        self.names, self.num_classes = names, len(names)


class Value:
    """The feature of a column of plain values."""


class Column:
    """A column, which is read when it is sliced."""

    def __init__(self, rows, name):
        self.rows, self.name = rows, name

    def __getitem__(self, key):
        return [row[self.name] for row in self.rows[key]] if isinstance(key, slice) else self.rows[key][self.name]


class Dataset:
    """A set of rows.

    Args:
        rows: Dicts of values by column.
        features: By column, what it holds.
        formatted: Whether rows come in a format of their own, as after `set_format("torch")`.
    """

    def __init__(self, rows, features, formatted=False):
        self.rows, self.features, self.formatted = rows, features, formatted
        self.column_names = list(features)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        if isinstance(key, str):
            return Column(self.rows, key)
        if isinstance(key, slice):
            return {name: [row[name] for row in self.rows[key]] for name in self.features}
        assert type(key) is int
        return dict.fromkeys(self.features, "formatted") if self.formatted else dict(self.rows[key])

    def with_format(self, kind):
        """The same rows as plain values."""
        assert kind is None
        return Dataset(self.rows, self.features)

    def select_columns(self, names):
        """The same rows with these columns alone."""
        return Dataset([{name: row[name] for name in names} for row in self.rows],
                       {name: self.features[name] for name in names}, self.formatted)


class DatasetDict(dict):
    """Several sets by name."""

    @property
    def column_names(self):
        """Of each set."""
        return {name: one.column_names for name, one in self.items()}


class IterableDataset:
    """A set that is streamed: it has neither a length nor places."""
    column_names = features = None
